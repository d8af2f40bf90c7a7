"""What tenants may use, and how operators limit and suspend them, on a running platform."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Final

import httpx
import pytest

from meshwright_common.ids import new_id
from tests.asking import DOCUMENTS, ask, eventually, turn_id_of
from tests.contract.made_tenant import (
    ACTS_SECONDS,
    SESSIONS,
    Made,
    is_allowed,
    is_refused,
    starter,
)
from tests.platform_process import Platform
from tests.sse import Event, events

CLOSES_SECONDS: Final = 30.0
"""When an open stream has to notice."""
SLOW: Final = "sim-n2000-tps20"
"""A model that takes longer than any test."""


@pytest.fixture
def tenant(platform: Platform) -> Made:
    """A tenant of its own, of the starter plan."""
    return starter(platform)


@pytest.fixture
def client(tenant: Made) -> Iterator[httpx.Client]:
    """A client of its owner."""
    with tenant.client() as fresh:
        yield fresh


def at_once(work: Any, count: int) -> list[httpx.Response]:
    """Do `work` from many threads at the same time."""
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(work, range(count)))


def refused_for(answer: httpx.Response, quota: str) -> dict[str, Any]:
    """Return the problem of an answer that was refused for a quota."""
    problem: dict[str, Any] = answer.json()
    assert (429, "QUOTA_EXCEEDED") == (answer.status_code, problem["code"]), answer.text
    assert quota == problem["metadata"]["quota"]
    return problem


@pytest.mark.promise("PLAN-01")
@pytest.mark.promise("PLAN-07")
def test_of_fifty_sessions_at_once_as_many_exist_as_the_quota_says(
    tenant: Made, client: httpx.Client
) -> None:
    tenant.agree(max_sessions=10)
    _, member = tenant.member(client)

    def create(number: int) -> httpx.Response:
        headers = {"idempotency-key": f"{tenant.tenant_id}-{number}"}
        while True:
            answer = client.post(SESSIONS, json={"title": "one"}, headers=headers)
            # Late, on a busy machine: asked again, it is the same session.
            if answer.status_code not in (503, 504):
                return answer

    answers = at_once(create, 50)
    good = [one for one in answers if one.status_code == 201]
    assert 10 == len(good)
    for one in answers:
        if one.status_code != 201:
            told = refused_for(one, "sessions")["metadata"]
            assert ("10", "10", "starter") == (told["limit"], told["used"], told["plan"])
    assert 10 == len(client.get(SESSIONS).json()["sessions"])
    client.delete(f"{SESSIONS}/{good[0].json()['session_id']}")
    assert 201 == client.post(SESSIONS, json={"title": "again"}).status_code
    refused_for(client.post(SESSIONS, json={"title": "once more"}), "sessions")

    def shares(own: httpx.Client) -> list[int]:
        found = own.get("/api/v1/notifications").json()["notifications"]
        return sorted(one["details"]["percent"] for one in found)

    eventually(lambda: shares(client) == [80, 90, 100])
    with tenant.client(member) as other:
        assert [] == shares(other)


@pytest.mark.promise("PLAN-02")
def test_of_many_turns_at_once_as_many_run_as_the_quota_says(
    tenant: Made, client: httpx.Client
) -> None:
    tenant.allow_models()
    eventually(lambda: is_allowed(client, "sim-n1"))

    def begin(_: int) -> httpx.Response:
        body = {"message": "Hello", "model": SLOW, "agent": "chat", "on_disconnect": "continue"}
        with client.stream("POST", "/api/v1/chat", json=body) as answer:
            if answer.status_code != 200:
                answer.read()
            else:
                # It has begun when the first event is there; the turn goes on without us.
                turn_ids.append(next(events(answer)).data["turn_id"])
            return answer

    turn_ids: list[str] = []
    answers = at_once(begin, 9)
    assert 3 == sum(one.status_code == 200 for one in answers)
    told = [refused_for(one, "concurrent_turns") for one in answers if one.status_code != 200]
    assert {("3", "3")} == {(one["metadata"]["used"], one["metadata"]["limit"]) for one in told}
    assert all(one["retry_after_ms"] for one in told)
    assert 3 == client.get("/api/v1/quota").json()["concurrent_turns"]["used"]
    client.post(f"/api/v1/turns/{turn_ids[0]}/cancel")
    assert "turn.completed" == ask(client, "Hello", model="sim-n1", agent="chat")[-1].name
    for turn_id in turn_ids[1:]:
        client.post(f"/api/v1/turns/{turn_id}/cancel")


@pytest.mark.promise("PLAN-03")
def test_documents_and_bytes_end_at_the_quota(tenant: Made, client: httpx.Client) -> None:
    tenant.agree(max_documents=2, max_storage_bytes=100)

    def upload(name: str, size: int) -> httpx.Response:
        return client.post(DOCUMENTS, files={"file": (name, name[0].encode() * size)})

    first = upload("a.txt", 40)
    assert 202 == first.status_code, first.text
    assert 202 == upload("b.txt", 40).status_code
    refused_for(upload("c.txt", 5), "documents")
    refused_for(upload("b.txt", 61), "storage_bytes")
    used = client.get("/api/v1/quota").json()
    assert ({"limit": 2, "used": 2}, {"limit": 100, "used": 80}) == (
        used["documents"],
        used["storage_bytes"],
    )
    client.delete(f"/api/v1/documents/{first.json()['document']['document_id']}")
    assert 202 == upload("c.txt", 60).status_code


@pytest.mark.promise("PLAN-04")
def test_a_tenant_sees_and_uses_the_models_of_its_plan_alone(
    tenant: Made, client: httpx.Client
) -> None:
    body = {"model": "sim-n2", "messages": [{"role": "user", "content": "Hello"}]}
    refused = client.post("/v1/chat/completions", json=body)
    assert (403, "model_not_allowed") == (refused.status_code, refused.json()["error"]["code"])
    assert "sim-n2" in refused.json()["error"]["message"]
    assert is_allowed(client, "offline")
    failed = ask(client, "Hello", model="sim-n2", agent="chat")[-1]
    assert "turn.failed" == failed.name
    assert "MODEL_NOT_ALLOWED" in str(failed.data)
    tenant.allow_models("sim-n2*")
    eventually(lambda: is_allowed(client, "sim-n2"))
    assert not is_allowed(client, "sim-n3")
    listed = {one["id"] for one in client.get("/v1/models").json()["data"]}
    built_in = {"offline", "builtin-384", "builtin-rerank", "builtin-moderation"}
    assert built_in == listed


@pytest.mark.promise("PLAN-05")
@pytest.mark.promise("PLAN-07")
def test_with_the_tokens_of_the_day_spent_nothing_begins(
    tenant: Made, client: httpx.Client
) -> None:
    tenant.agree(max_tokens_per_day=1000)
    while_tokens = {"model": "offline", "messages": [{"role": "user", "content": "word " * 200}]}

    def completion() -> httpx.Response:
        return client.post("/v1/chat/completions", json=while_tokens)

    def left() -> int:
        budget = client.get("/api/v1/budgets").json()["budgets"][0]
        return int(budget["limit"] or 0) - int(budget["used"]) - int(budget["reserved"])

    eventually(lambda: left() == 1000)
    assert 200 == completion().status_code
    # The rest, to the token: four letters are one.
    text = {"model": "builtin-384", "input": "abcd" * left()}
    assert 200 == client.post("/v1/embeddings", json=text).status_code
    assert 429 == completion().status_code
    eventually(lambda: client.get("/api/v1/quota").json()["tokens_per_day"]["used"] == 1000)
    error = completion().json()["error"]
    assert ("insufficient_quota", "insufficient_quota") == (error["type"], error["code"])
    assert "false" == completion().headers["x-should-retry"]
    begun = [
        client.post("/api/v1/chat", json={"message": "Hello", "agent": "chat"}),
        client.post("/api/v1/tasks", json={"message": "Hello", "agent": "chat"}),
        client.post("/v1/embeddings", json={"model": "builtin-384", "input": "Hello"}),
    ]
    assert 0 == left()
    refused_for(begun[0], "tokens_per_day")
    refused_for(begun[1], "tokens_per_day")
    assert "insufficient_quota" == begun[2].json()["error"]["code"]

    def told() -> set[tuple[str, int]]:
        notices = client.get("/api/v1/notifications").json()["notifications"]
        return {(one["details"]["quota"], one["details"]["percent"]) for one in notices}

    eventually(lambda: told() == {("tokens_per_day", percent) for percent in (80, 90, 100)})
    tenant.agree(max_tokens_per_day=0)
    eventually(lambda: completion().status_code == 200)


@pytest.mark.promise("PLAN-06")
def test_the_limits_of_the_plan_and_what_is_used_are_shown(client: httpx.Client) -> None:
    client.post(SESSIONS, json={"title": "one"})
    shown = client.get("/api/v1/quota").json()
    assert ("starter", "active") == (shown["plan"], shown["state"])
    assert {
        "sessions": {"limit": 100, "used": 1},
        "tokens_per_day": {"limit": 500_000, "used": 0},
        "documents": {"limit": 1000, "used": 0},
        "storage_bytes": {"limit": 1024**3, "used": 0},
        "concurrent_turns": {"limit": 3, "used": 0},
    }.items() <= shown.items()
    assert "*mini*" in shown["allowed_models"]
    assert [80, 90, 100] == shown["alert_percents"]


def waiting(stack: ExitStack, client: httpx.Client) -> Iterator[Event]:
    """Open a stream of notifications, which ends by itself never."""
    stream = client.stream("GET", "/api/v1/notifications/stream", timeout=CLOSES_SECONDS)
    response = stack.enter_context(stream)
    assert 200 == response.status_code
    return events(response)


@pytest.mark.promise("PLAN-08")
def test_a_suspended_tenant_calls_no_more_until_it_is_resumed(
    tenant: Made, client: httpx.Client
) -> None:
    tenant.allow_models()
    eventually(lambda: is_allowed(client, "sim-n1"))
    kept = client.post(SESSIONS, json={"title": "kept"}).json()["session_id"]
    token = client.post("/api/v1/auth/token", json={"grant_type": "api_key"}).json()
    body = {"message": "Hello", "model": SLOW, "agent": "chat"}
    with (
        ExitStack() as stack,
        tenant.client(token["access_token"]) as with_token,
        client.stream("POST", "/api/v1/chat", json=body, timeout=CLOSES_SECONDS) as chat,
    ):
        told = waiting(stack, client)
        turn = events(chat)
        turn_id = turn_id_of([next(turn)])
        tenant.suspend()
        eventually(lambda: is_refused(client, 403), timeout_seconds=ACTS_SECONDS)
        assert "TENANT_SUSPENDED" == client.get(SESSIONS).json()["code"]
        eventually(lambda: is_refused(with_token, 403), timeout_seconds=ACTS_SECONDS)
        # Reading fails if nothing comes for so long: both end in time.
        assert list(turn)[-1].name in ("turn.cancelled", "error")
        assert "TENANT_SUSPENDED" == list(told)[-1].data["code"]
    tenant.suspend(suspended=False)
    eventually(lambda: is_refused(client, 200), timeout_seconds=ACTS_SECONDS)
    assert "cancelled" == client.get(f"/api/v1/turns/{turn_id}").json()["state"]
    assert 200 == client.get(f"{SESSIONS}/{kept}").status_code
    assert is_allowed(client, "sim-n1")


@pytest.mark.promise("PLAN-09")
def test_what_is_taken_from_a_user_acts_on_calls_and_open_streams(
    tenant: Made, client: httpx.Client
) -> None:
    disabled, disabled_key = tenant.member(client)
    demoted, demoted_key = tenant.member(client, "admin")
    _, revoked_key = tenant.member(client)
    keys = client.get("/api/v1/api-keys").json()["api_keys"]
    [revoked] = [one["api_key_id"] for one in keys if revoked_key.startswith(one["prefix"])]
    with ExitStack() as stack:
        callers = [
            stack.enter_context(tenant.client(key))
            for key in (disabled_key, demoted_key, revoked_key)
        ]
        streams = [waiting(stack, one) for one in callers]
        client.patch(f"/api/v1/users/{disabled}", json={"disabled": True})
        client.patch(f"/api/v1/users/{demoted}", json={"roles": ["member"]})
        client.delete(f"/api/v1/api-keys/{revoked}")
        users = "/api/v1/users"
        for caller, status in zip(callers, (401, 403, 401), strict=True):
            eventually(
                lambda caller=caller, status=status: is_refused(caller, status, users),  # type: ignore[misc]
                timeout_seconds=ACTS_SECONDS,
            )
        assert ["UNAUTHENTICATED"] * 3 == [list(one)[-1].data["code"] for one in streams]
        assert 200 == callers[1].get(SESSIONS).status_code


@pytest.mark.promise("PLAN-10")
def test_nobody_changes_a_user_who_holds_more(tenant: Made, client: httpx.Client) -> None:
    admin, admin_key = tenant.member(client, "admin")
    member, _ = tenant.member(client)

    def change(own: httpx.Client, user_id: str, **body: object) -> tuple[int, str]:
        answer = own.patch(f"/api/v1/users/{user_id}", json=body)
        return answer.status_code, answer.json().get("code", "")

    with tenant.client(admin_key) as own:
        assert (200, "") == change(own, member, roles=["viewer"], name=f"ada-{new_id()}")
        assert (403, "PERMISSION_DENIED") == change(own, tenant.owner_id, disabled=True)
        assert (403, "PERMISSION_DENIED") == change(own, admin, roles=["owner"])
        assert (422, "INVALID_ARGUMENT") == change(own, member)
        assert (422, "INVALID_ARGUMENT") == change(own, member, tenant_id=new_id())
        assert (404, "USER_NOT_FOUND") == change(own, new_id(), disabled=True)
    assert (409, "LAST_OWNER") == change(client, tenant.owner_id, disabled=True)
    assert (409, "LAST_OWNER") == change(client, tenant.owner_id, roles=["admin"])
