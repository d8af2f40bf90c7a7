"""Tasks that ask people, through the public API and the commands of a running platform."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from meshwright_cli.exits import Exit
from meshwright_common.ids import new_id
from tests.asking import eventually
from tests.platform_process import Platform, run_command
from tests.tenants import NewTenant, new_tenant

AGENT: Final = "clerk"
QUESTION: Final = "What is 17*23+4?"
CALL: Final = {"name": "calculator", "arguments_json": '{"expression":"17*23+4"}'}
Json = dict[str, Any]


@pytest.fixture
def tenant(platform: Platform) -> NewTenant:
    """A tenant of its own, with an agent whose calculations want approval."""
    made = new_tenant(platform)
    definition = {"type": "chat", "tools": ["calculator"], "approval_tools": ["calculator"]}
    with platform.client(made.api_key) as owner:
        answer = owner.put(f"/api/v1/agents/{AGENT}", json={"definition": definition})
        assert answer.is_success, answer.text
    return made


@pytest.fixture
def client(platform: Platform, tenant: NewTenant) -> Iterator[httpx.Client]:
    """The owner's client."""
    with platform.client(tenant.api_key) as owner:
        yield owner


@pytest.fixture
def member(platform: Platform, client: httpx.Client) -> Iterator[httpx.Client]:
    """The client of a member of the tenant."""
    user = client.post(
        "/api/v1/users", json={"name": f"member-{new_id()}", "roles": ["member"]}
    ).json()
    key = client.post("/api/v1/api-keys", json={"user_id": user["user_id"]}).json()
    with platform.client(key["secret"]) as other:
        yield other


def asked(client: httpx.Client) -> Json:
    """Submit a task and return what it asks, when it does."""
    body = {"agent": AGENT, "message": QUESTION}
    task_id = client.post("/api/v1/tasks", json=body).json()["task_id"]
    found: list[Json] = []

    def asks() -> bool:
        path = f"/api/v1/interrupts?task_id={task_id}"
        found[:] = client.get(path).json()["interrupts"]
        return bool(found)

    eventually(asks)
    return found[0]


def resume(client: httpx.Client, one: Json, value: Json, key: str = "") -> httpx.Response:
    """Answer a question."""
    body = {"interrupt_id": one["interrupt_id"], "answer": value}
    headers = {"idempotency-key": key} if key else {}
    return client.post(f"/api/v1/tasks/{one['task_id']}/resume", json=body, headers=headers)


def ended(client: httpx.Client, one: Json) -> Json:
    """Return the task of a question when it is completed."""
    task: Json = {}

    def is_completed() -> bool:
        task.update(client.get(f"/api/v1/tasks/{one['task_id']}").json())
        return bool(task["state"] == "completed")

    eventually(is_completed)
    return task


@pytest.mark.promise("PEOPLE-01")
def test_an_approved_call_is_made_as_it_was_shown(client: httpx.Client) -> None:
    one = asked(client)
    waiting = client.get(f"/api/v1/tasks/{one['task_id']}").json()
    assert waiting["state"] == "waiting"
    assert [shown["interrupt_id"] for shown in waiting["interrupts"]] == [one["interrupt_id"]]
    assert one["kind"] == "approval"
    assert one["tool_call"]["name"] == CALL["name"]
    assert json.loads(one["tool_call"]["arguments_json"]) == json.loads(CALL["arguments_json"])

    assert resume(client, one, {"approved": True}).json()["state"] in {"queued", "running"}
    assert "395" in ended(client, one)["result"]["answer"]
    assert client.get("/api/v1/interrupts").json()["interrupts"] == []


@pytest.mark.promise("PEOPLE-01")
def test_a_refused_call_is_not_made(client: httpx.Client) -> None:
    one = asked(client)
    refused = {"approved": False, "comment": "by hand, please"}
    assert resume(client, one, refused).status_code == 200
    path = f"/api/v1/tasks/{one['task_id']}/events"
    with client.stream("GET", path) as response:
        told = response.read().decode()
    assert "APPROVAL_REFUSED" in told
    assert "by hand, please" in told
    assert "395" not in ended(client, one)["result"]["answer"]


@pytest.mark.promise("PEOPLE-02")
def test_the_first_answer_counts(client: httpx.Client) -> None:
    one = asked(client)
    first = resume(client, one, {"approved": True}, "k")
    again = resume(client, one, {"approved": True}, "k")
    other = resume(client, one, {"approved": False}, "k")
    second = resume(client, one, {"approved": False})
    assert (first.status_code, again.status_code) == (200, 200)
    assert other.status_code == 422
    assert other.json()["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert second.status_code == 409
    assert second.json()["code"] == "TASK_STATE"
    assert "395" in ended(client, one)["result"]["answer"]


@pytest.mark.promise("PEOPLE-03")
def test_others_neither_see_nor_answer(
    platform: Platform, client: httpx.Client, member: httpx.Client
) -> None:
    of_owner, of_member = asked(client), asked(member)
    with platform.client(new_tenant(platform).api_key) as stranger:
        for other in (member, stranger):
            assert of_owner["task_id"] not in other.get("/api/v1/interrupts").text
            assert resume(other, of_owner, {"approved": True}).status_code == 404
    seen = {one["task_id"] for one in client.get("/api/v1/interrupts").json()["interrupts"]}
    assert seen == {of_owner["task_id"], of_member["task_id"]}
    assert resume(client, of_member, {"approved": True}).status_code == 200
    assert "395" in ended(member, of_member)["result"]["answer"]


@pytest.mark.promise("PEOPLE-04")
def test_an_answer_that_does_not_fit_is_refused_by_its_field(client: httpx.Client) -> None:
    one = asked(client)
    answer = resume(client, one, {"approved": "yes"})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "answer.approved"
    nothing = resume(client, one | {"interrupt_id": new_id()}, {"approved": True})
    assert nothing.json()["code"] == "INTERRUPT_NOT_FOUND"
    assert client.get(f"/api/v1/tasks/{one['task_id']}").json()["state"] == "waiting"


@pytest.mark.promise("PEOPLE-05")
def test_who_decided_what_is_recorded_and_the_owner_is_told(client: httpx.Client) -> None:
    one = asked(client)
    task = f"task/{one['task_id']}"

    def is_told() -> bool:
        told = client.get("/api/v1/notifications").json()["notifications"]
        return "task.waiting" in {note["kind"] for note in told if note["resource"] == task}

    eventually(is_told)
    resume(client, one, {"approved": False, "comment": "a secret reason"})
    records: list[Json] = []

    def is_recorded() -> bool:
        found = client.get("/api/v1/audit").json()["records"]
        answers = [record for record in found if record["action"] == "task.answered"]
        records[:] = [record for record in answers if record["resource"] == task]
        return bool(records)

    eventually(is_recorded)
    (record,) = records
    assert record["actor"] == client.get("/api/v1/me").json()["subject"]
    assert record["details"]["tool"] == "calculator"
    assert record["details"]["approved"] is False
    assert len(record["details"]["call_sha256"]) == 64
    assert "a secret reason" not in json.dumps(record)


@pytest.mark.promise("PEOPLE-07")
@pytest.mark.parametrize("platform", ["together"], indirect=True)
def test_a_task_is_answered_by_command(
    platform: Platform, tenant: NewTenant, client: httpx.Client
) -> None:
    one = asked(client)
    where = ("--url", platform.url, "--key", tenant.api_key)
    listed = run_command("tasks", "interrupts", *where)
    nothing = run_command("tasks", "answer", one["task_id"], *where)
    done = run_command("tasks", "answer", one["task_id"], "--approve", *where)
    late = run_command("tasks", "answer", one["task_id"], one["interrupt_id"], "--refuse", *where)
    assert f"meshwright tasks answer {one['task_id']} {one['interrupt_id']}" in listed.stdout
    assert "17*23+4" in listed.stdout
    assert nothing.returncode == Exit.FAILED
    assert "--approve" in nothing.stderr
    assert done.returncode == Exit.OK, done.stderr
    assert late.returncode == Exit.FAILED
    assert "TASK_STATE" in late.stderr
    assert "395" in ended(client, one)["result"]["answer"]
