"""Two tenants, and two users of one: what is another's looks as if it were absent (S-01, S-02)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from meshwright_common.ids import new_id
from tests.asking import DOCUMENTS, ask, eventually
from tests.platform_process import Platform
from tests.security.crawl import Operation, operations, shape
from tests.security.rows import rows_of_tenant
from tests.security.things import CANARY, Owned, furnish
from tests.tenants import NewTenant, new_tenant

_PASSING: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d+|T[\d:.]+Z")
"""New ids, times and durations: they differ from call to call."""
QUERIES: Final = {"GET /api/v1/messages/search": {"q": CANARY}}
BODIES: Final[dict[str, dict[str, Any]]] = {
    "POST /api/v1/sessions/{session_id}/branch": {"sequence": 0},
    "PATCH /api/v1/users/{user_id}": {"disabled": True},
    "PATCH /api/v1/sessions/{session_id}": {"title": "taken over"},
    "PUT /api/v1/sessions/{session_id}/context": {"data": {}, "expected_version": 0},
    "POST /api/v1/sessions/{session_id}/context/restore": {"version": 0},
    "POST /api/v1/tasks/{task_id}/resume": {
        "interrupt_id": new_id(),
        "answer": {"approved": True},
    },
    "PUT /api/v1/turns/{turn_id}/rating": {"rating": 1},
    "POST /api/v1/turns/{turn_id}/regenerate": {},
    "PATCH /api/v1/webhooks/{webhook_id}": {"disabled": True},
    "POST /api/v1/webhooks/{webhook_id}/secret": {},
    "POST /api/v1/workflows/{workflow_id}/runs": {},
}
"""Bodies that are good, where a path with an id wants one."""


@pytest.fixture(scope="module")
def victim(platform: Platform) -> NewTenant:
    return new_tenant(platform)


@pytest.fixture(scope="module")
def owned(platform: Platform, victim: NewTenant) -> Owned:
    """What the victim has, with users and keys."""
    with platform.client(victim.api_key) as client:
        things = furnish(client, victim.api_key)
        key = client.post("/api/v1/api-keys", json={"label": CANARY}).json()["api_key"]
        user = client.post("/api/v1/users", json={"name": CANARY}).json()
        # It works beside the calls until its end.
        erasure = f"/api/v1/erasures/{things.ids['erasure_id']}"
        eventually(lambda: client.get(erasure).json()["state"] == "completed")
    return Owned(
        victim.api_key,
        things.ids | {"api_key_id": key["api_key_id"], "user_id": user["user_id"]},
    )


@pytest.fixture(scope="module")
def stranger(platform: Platform) -> Iterator[httpx.Client]:
    """The owner of another tenant, who may do everything there."""
    with platform.client(new_tenant(platform).api_key) as client:
        yield client


@pytest.mark.promise("TENANT-01")
def test_every_path_with_an_id_answers_for_a_foreign_one_as_for_an_absent_one(
    platform: Platform, stranger: httpx.Client, victim: NewTenant, owned: Owned
) -> None:
    before = asyncio.run(rows_of_tenant(platform, victim.tenant_id))
    tried = 0
    for operation in operations(stranger):
        if not operation.parameters or operation.parameters[0] in ("name", "model"):
            continue
        (parameter,) = operation.parameters
        foreign_id, absent_id = owned.ids[parameter], new_id()
        foreign, absent = (
            shape(send(stranger, operation, parameter, one), one, one.upper())
            for one in (foreign_id, absent_id)
        )
        assert foreign == absent, operation
        assert foreign[0] in (404, 204), operation
        tried += 1
    assert tried >= 18
    assert asyncio.run(rows_of_tenant(platform, victim.tenant_id)) == before


def send(
    client: httpx.Client, operation: Operation, parameter: str, identifier: str
) -> httpx.Response:
    path = operation.at({parameter: identifier})
    if operation.method == "POST" and path.endswith("/documents"):
        return client.post(path, files={"file": ("mine.txt", b"Mine now.")})
    return client.request(operation.method, path, json=BODIES.get(str(operation)))


@pytest.mark.promise("TENANT-01")
def test_every_id_in_a_body_or_a_query_answers_for_a_foreign_one_as_for_an_absent_one(
    platform: Platform, stranger: httpx.Client, victim: NewTenant, owned: Owned
) -> None:
    before = asyncio.run(rows_of_tenant(platform, victim.tenant_id))
    ids = owned.ids

    def asks(identifier: str, kind: str) -> httpx.Response:
        return {
            "chat session": lambda: stranger.post(
                "/api/v1/chat", json={"message": "Hello", "session_id": identifier}
            ),
            "chat base": lambda: stranger.post(
                "/api/v1/chat",
                json={
                    "message": "Hello",
                    "agent": "rag",
                    "knowledge_base_ids": [identifier],
                    "stream": False,
                },
            ),
            "search base": lambda: stranger.post(
                "/api/v1/search", json={"query": CANARY, "knowledge_base_ids": [identifier]}
            ),
            "search document": lambda: stranger.post(
                "/api/v1/search", json={"query": CANARY, "document_ids": [identifier]}
            ),
            "tool base": lambda: stranger.post(
                "/api/v1/tools/knowledge_search/execute",
                json={"arguments": {"query": CANARY}, "knowledge_base_ids": [identifier]},
            ),
            "key for user": lambda: stranger.post("/api/v1/api-keys", json={"user_id": identifier}),
            "usage of user": lambda: stranger.get("/api/v1/usage", params={"user_id": identifier}),
            "tasks of session": lambda: stranger.get(
                "/api/v1/tasks", params={"session_id": identifier}
            ),
            "audit of actor": lambda: stranger.get("/api/v1/audit", params={"actor": identifier}),
            "tasks of user": lambda: stranger.get(
                "/api/v1/usage/tasks", params={"user_id": identifier}
            ),
            "read notification": lambda: stranger.post(
                "/api/v1/notifications/read", json={"notification_ids": [identifier]}
            ),
            "notifications after": lambda: stranger.get(
                "/api/v1/notifications/stream", params={"last_event_id": identifier}
            ),
        }[kind]()

    for kind, foreign_id in {
        "chat session": ids["session_id"],
        "chat base": ids["default"],
        "search base": ids["default"],
        "search document": ids["document_id"],
        "tool base": ids["default"],
        "key for user": ids["user_id"],
        "usage of user": victim.user_id,
        "tasks of session": ids["session_id"],
        "audit of actor": victim.user_id,
        "tasks of user": victim.user_id,
        "read notification": ids["notification_id"],
        "notifications after": ids["notification_id"],
    }.items():
        absent_id = new_id()
        foreign, absent = (comparable(asks(one, kind), one) for one in (foreign_id, absent_id))
        assert foreign == absent, kind
        assert CANARY not in foreign[1], kind
    assert asyncio.run(rows_of_tenant(platform, victim.tenant_id)) == before


def comparable(answer: httpx.Response, identifier: str) -> tuple[int, str]:
    """Return what an answer tells, without ids and times that differ anyway."""
    status, text, _ = shape(answer, identifier)
    return status, _PASSING.sub("", text)


@pytest.mark.promise("TENANT-02")
def test_no_list_search_answer_or_record_shows_what_another_tenant_has(
    client: httpx.Client, victim: NewTenant, owned: Owned
) -> None:
    secrets = [CANARY, victim.tenant_id, victim.user_id, *owned.ids.values()]
    listed = [one for one in operations(client) if one.method == "GET" and not one.parameters]
    seen = [
        client.get(operation.path, params=QUERIES.get(str(operation)))
        for operation in listed
        if not operation.streams
    ]
    for operation in listed:
        if operation.streams:
            with client.stream("GET", operation.path) as response:
                # A comment, when there is nothing to tell.
                assert next(response.iter_text()).startswith(("retry:", ":")), operation
    seen.append(client.get("/api/v1/usage/export", params={"format": "jsonl"}))
    seen.append(client.get(DOCUMENTS))
    seen.append(client.post("/api/v1/search", json={"query": "the secret word", "top_k": 50}))
    seen.append(client.get("/metrics"))
    for answer in seen:
        assert answer.status_code == 200, answer.request.url
        told = [secret for secret in secrets if secret in answer.text]
        assert told == [], answer.request.url
    events = ask(client, "What is the password?", agent="rag")
    assert CANARY not in str(events)


@pytest.mark.promise("TENANT-03")
def test_what_one_user_of_a_tenant_said_another_one_does_not_find(
    platform: Platform, owned: Owned
) -> None:
    with platform.client(owned.api_key) as owner:
        user = owner.post("/api/v1/users", json={"name": f"member-{new_id()}"}).json()
        key = owner.post("/api/v1/api-keys", json={"user_id": user["user_id"]}).json()["secret"]
    private = {"session_id", "turn_id", "task_id"}
    with platform.client(key) as member:
        for operation in operations(member):
            if not private.intersection(operation.parameters):
                continue
            (parameter,) = operation.parameters
            foreign_id, absent_id = owned.ids[parameter], new_id()
            foreign, absent = (
                shape(send(member, operation, parameter, one), one)
                for one in (foreign_id, absent_id)
            )
            assert foreign == absent, operation
        for path in ("/api/v1/sessions", "/api/v1/tasks", "/api/v1/usage"):
            text = member.get(path).text
            assert not [owned.ids[name] for name in private if owned.ids[name] in text], path
    with platform.client(owned.api_key) as owner:
        assert owner.get(f"/api/v1/sessions/{owned.ids['session_id']}").status_code == 200
