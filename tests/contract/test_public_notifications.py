"""What users are told, and how tasks ended, through the public API of a running platform."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx
import pytest

from meshwright_common.ids import new_id
from tests.asking import ask, eventually, indexed
from tests.platform_process import Platform
from tests.sse import Event, events
from tests.tenants import new_tenant

PATH: Final = "/api/v1/notifications"
BROKEN_PDF: Final = b"%PDF-1.7 and nothing more"


@pytest.fixture
def client(platform: Platform) -> Iterator[httpx.Client]:
    """A client of a tenant of its own."""
    with platform.client(new_tenant(platform).api_key) as fresh:
        yield fresh


def told(client: httpx.Client, **params: Any) -> list[dict[str, Any]]:
    """Return what the caller was told, newest first."""
    answer = client.get(PATH, params=params)
    assert answer.status_code == 200, answer.text
    notifications: list[dict[str, Any]] = answer.json()["notifications"]
    return notifications


def told_of(client: httpx.Client, *document_ids: str) -> list[dict[str, Any]]:
    """Return what the caller was told, newest first, when it was told of these documents."""
    wanted = {f"document/{one}" for one in document_ids}
    eventually(lambda: wanted <= {one["resource"] for one in told(client)})
    return told(client)


def add(client: httpx.Client, content: bytes = b"", name: str = "") -> str:
    """Index a document, or fail to; return its id."""
    content = content or f"Something about {new_id()}.".encode()
    document_id: str = indexed(client, name or f"{new_id()}.txt", content)["document_id"]
    return document_id


@contextmanager
def following(client: httpx.Client, last_event_id: str = "") -> Iterator[Iterator[Event]]:
    """Open the stream of the caller's notifications."""
    headers = {"last-event-id": last_event_id} if last_event_id else {}
    with client.stream("GET", f"{PATH}/stream", headers=headers) as response:
        yield events(response)


@contextmanager
def colleague(platform: Platform, client: httpx.Client) -> Iterator[httpx.Client]:
    """Give the client of another user of the same tenant, a member."""
    user = client.post("/api/v1/users", json={"name": f"member-{new_id()}"}).json()
    key = client.post("/api/v1/api-keys", json={"user_id": user["user_id"]}).json()["secret"]
    with platform.client(key) as member:
        yield member


@pytest.mark.promise("NT-01")
def test_the_uploader_is_told_once_what_became_of_each_document(client: httpx.Client) -> None:
    good = add(client, name="payroll.txt")
    bad = add(client, BROKEN_PDF, "payroll.pdf")
    failed, ready = told_of(client, good, bad)
    assert (ready["kind"], ready["resource"]) == ("document.ready", f"document/{good}")
    assert (failed["kind"], failed["resource"]) == ("document.failed", f"document/{bad}")
    assert failed["details"]["failure_reason"] == "DOCUMENT_BROKEN"
    assert (ready["details"]["document_id"], ready["details"]["version"]) == (good, 1)
    assert ready["read_time"] is None
    assert "payroll" not in json.dumps([ready, failed])


@pytest.mark.promise("NT-02")
def test_notifications_are_marked_by_id_and_by_time_once(client: httpx.Client) -> None:
    ids = [add(client) for _ in range(3)]
    third, second, first = told_of(client, *ids)
    by_id = {"notification_ids": [first["notification_id"], new_id()]}
    counts = [client.post(f"{PATH}/read", json=by_id).json()["marked_count"] for _ in range(2)]
    assert counts == [1, 0]
    by_time = {"until_time": second["create_time"]}
    counts = [client.post(f"{PATH}/read", json=by_time).json()["marked_count"] for _ in range(2)]
    assert counts == [1, 0]
    assert told(client, unread_only=True) == [third]
    assert [one["read_time"] is not None for one in told(client)] == [False, True, True]


@pytest.mark.promise("NT-02")
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "notification_ids"),
        ({"notification_ids": ["x"]}, "notification_ids.0"),
        (
            {"notification_ids": [new_id()], "until_time": "2026-01-31T12:00:00Z"},
            "notification_ids",
        ),
        ({"until_time": "yesterday"}, "until_time"),
    ],
    ids=["neither", "no id", "both", "no time"],
)
def test_a_mark_of_a_wrong_shape_is_a_problem_with_its_field(
    client: httpx.Client, body: dict[str, Any], field: str
) -> None:
    answer = client.post(f"{PATH}/read", json=body)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.promise("NT-03")
def test_the_stream_brings_unread_and_new_ones_and_is_resumed(client: httpx.Client) -> None:
    first = add(client)
    told_of(client, first)
    with following(client) as stream:
        old = next(stream)
        second = add(client)
        new = next(stream)
    assert (old.name, old.data["resource"]) == ("notification", f"document/{first}")
    assert (new.name, new.data["resource"]) == ("notification", f"document/{second}")
    assert [old.data, new.data] == told(client)[::-1]
    with following(client, old.id) as stream:
        assert next(stream) == new
        third = add(client)
        assert next(stream).data["resource"] == f"document/{third}"


@pytest.mark.promise("NT-04")
def test_nobody_finds_marks_or_follows_what_others_were_told(
    platform: Platform, client: httpx.Client
) -> None:
    [mine] = told_of(client, add(client))
    wanted = mine["notification_id"]
    everything = {"until_time": mine["create_time"]}
    with (
        platform.client(new_tenant(platform).api_key) as stranger,
        colleague(platform, client) as member,
    ):
        for other in (stranger, member):
            assert told(other) == []
            assert other.post(f"{PATH}/read", json=everything).json() == {"marked_count": 0}
            assert other.post(f"{PATH}/read", json={"notification_ids": [wanted]}).json() == {
                "marked_count": 0
            }
            foreign, absent = (
                other.get(f"{PATH}/stream", headers={"last-event-id": one})
                for one in (wanted, new_id())
            )
            assert foreign.status_code == absent.status_code == 410
            assert foreign.json()["code"] == absent.json()["code"] == "CURSOR_EXPIRED"
            # What it is told itself comes first: nothing of the others is before it.
            own = add(other)
            with following(other) as stream:
                assert next(stream).data["resource"] == f"document/{own}"
    assert [one["read_time"] for one in told(client)] == [None]


@pytest.mark.promise("NT-05")
def test_each_task_that_ended_is_counted_once(platform: Platform, client: httpx.Client) -> None:
    """Whoever waited for a task is not told of its end as well."""
    for _ in range(2):
        ask(client, "Hello", agent="chat")
    with colleague(platform, client) as member:
        ask(member, "What is 17*23?", agent="tool_call")
        eventually(lambda: counted(client) == {"chat": 2, "tool_call": 1})
        assert counted(member) == {"tool_call": 1}
        refused = member.get("/api/v1/usage/tasks", params={"user_id": new_id()})
        assert refused.status_code == 403
    with platform.client(new_tenant(platform).api_key) as stranger:
        assert counted(stranger) == {}
    tasks = client.get("/api/v1/tasks").json()["tasks"]
    tokens = [
        task["usage"]["prompt_tokens"] + task["usage"]["completion_tokens"]
        for task in tasks
        if task["agent"] == "chat"
    ]
    [row] = [row for row in statistics(client) if row["agent"] == "chat"]
    assert (row["state"], row["total_tokens"]) == ("completed", sum(tokens))
    assert row["total_duration_milliseconds"] > 0
    assert told(client) == []


@pytest.mark.promise("NT-06")
def test_the_owner_of_a_submitted_task_is_told_once_how_it_ended(client: httpx.Client) -> None:
    submitted = {"agent": "chat", "message": "Hello secret"}
    key = {"idempotency-key": new_id()}
    answers = [client.post("/api/v1/tasks", json=submitted, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    failing = client.post("/api/v1/tasks", json={**submitted, "model": "no-such-model"}).json()
    task_id = answers[0].json()["task_id"]
    eventually(lambda: len(told(client)) >= 2)
    by_resource = {one["resource"]: one for one in told(client)}
    assert by_resource.keys() == {f"task/{task_id}", f"task/{failing['task_id']}"}
    done, failed = by_resource[f"task/{task_id}"], by_resource[f"task/{failing['task_id']}"]
    assert (done["kind"], done["title"]) == ("task.completed", "A task of agent chat is completed.")
    assert (failed["kind"], failed["details"]["error_reason"]) == ("task.failed", "MODEL_NOT_FOUND")
    assert "secret" not in json.dumps([done, failed])
    assert client.get(f"/api/v1/tasks/{task_id}").json()["state"] == "completed"


def statistics(client: httpx.Client) -> list[dict[str, Any]]:
    answer = client.get("/api/v1/usage/tasks")
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["statistics"]
    return rows


def counted(client: httpx.Client) -> dict[str, int]:
    """Return the tasks of the tenant, or of the caller, by agent."""
    return {row["agent"]: row["task_count"] for row in statistics(client)}
