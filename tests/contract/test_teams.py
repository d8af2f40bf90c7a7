"""Supervisors and plans over REST and SSE, on the shared platform."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.asking import ask, eventually
from tests.platform_process import Platform
from tests.sse import Event, events, text_of
from tests.tenants import new_tenant

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def client(platform: Platform) -> Iterator[httpx.Client]:
    """A client of a tenant of its own."""
    with platform.client(new_tenant(platform).api_key) as fresh:
        yield fresh


def handing(agent: str, message: str, *, times: int = 1) -> str:
    """Return a question at which the simulated model hands `message` to an agent."""
    arguments = json.dumps({"agent": agent, "message": message}).encode().hex()
    return f"sim-tool:delegate-args:{arguments}" + (f"-calls{times}" if times > 1 else "")


def define(client: httpx.Client, name: str, *agents: str) -> None:
    """Define a supervisor of these agents."""
    definition = {"type": "supervisor", "agents": list(agents)}
    answer = client.put(f"/api/v1/agents/{name}", json={"definition": definition})
    assert answer.status_code == 200, answer.text


def execute(client: httpx.Client, agent: str, message: str, model: str = "sim") -> list[Event]:
    """Run a task and return all its events."""
    body = {"agent": agent, "message": message, "model": model}
    with client.stream("POST", "/api/v1/agents/execute", json=body) as response:
        return list(events(response))


def named(seen: list[Event], name: str) -> list[Any]:
    """Return the data of the events of this name, what was told twice once."""
    found = [json.dumps(event.data, sort_keys=True) for event in seen if event.name == name]
    return [json.loads(text) for text in dict.fromkeys(found)]


@pytest.mark.promise("TEAM-01")
@pytest.mark.promise("TEAM-06")
@pytest.mark.promise("TEAM-07")
def test_work_goes_down_two_levels_and_comes_back(client: httpx.Client) -> None:
    define(client, "middle", "chat")
    define(client, "top", "middle")
    seen = execute(client, "top", handing("middle", handing("chat", "Say it: sim-say:c3b6")))
    assert seen[-1].name == "task.completed", seen[-1]
    queued, ended = named(seen, "task.child")
    assert (queued["agent"], queued["state"]) == ("middle", "queued")
    assert (ended["agent"], ended["state"]) == ("middle", "completed")
    child = client.get(f"/api/v1/tasks/{ended['task_id']}").json()
    assert child["result"]["answer"]
    tree = client.get("/api/v1/tasks").json()["tasks"]
    assert sorted(task["agent"] for task in tree) == ["chat", "middle", "top"]
    prompt = [client.get(f"/api/v1/tasks/{task['task_id']}").json()["usage"] for task in tree]
    usage = seen[-1].data["usage"]
    assert usage["prompt_tokens"] == sum(own["prompt_tokens"] for own in prompt)
    assert usage["completion_tokens"] == sum(own["completion_tokens"] for own in prompt)


@pytest.mark.promise("TEAM-02")
def test_circle_of_supervisors_ends_at_its_depth(client: httpx.Client) -> None:
    define(client, "ring", "ring")
    message = "Enough."
    for _ in range(4):
        message = handing("ring", message)
    seen = execute(client, "ring", message)
    assert seen[-1].name == "task.completed", seen[-1]
    tree = client.get("/api/v1/tasks").json()["tasks"]
    assert [task["state"] for task in tree] == ["completed"] * 4


@pytest.mark.promise("TEAM-03")
def test_agent_that_fails_is_an_error_for_its_supervisor(client: httpx.Client) -> None:
    seen = execute(client, "supervisor", handing("tool_call", "sim-err400"))
    assert seen[-1].name == "task.completed", seen[-1]
    assert named(seen, "task.child")[-1]["state"] == "failed"


@pytest.mark.promise("TEAM-01")
@pytest.mark.promise("TEAM-04")
def test_agents_at_work_at_the_same_time_end_with_their_supervisor(client: httpx.Client) -> None:
    body = {
        "agent": "supervisor",
        "message": handing("tool_call", "sim-hang", times=2),
        "model": "sim",
    }
    task_id = client.post("/api/v1/tasks", json=body).json()["task_id"]

    def at_work() -> list[str]:
        tasks = client.get("/api/v1/tasks?state=running").json()["tasks"]
        return [task["agent"] for task in tasks]

    eventually(lambda: at_work() == ["tool_call"] * 2)
    assert client.get(f"/api/v1/tasks/{task_id}").json()["state"] == "waiting"
    client.post(f"/api/v1/tasks/{task_id}/cancel", json={})
    tree = client.get("/api/v1/tasks").json()["tasks"]
    assert [task["state"] for task in tree] == ["cancelled"] * 3


@pytest.mark.promise("TEAM-06")
def test_turn_shows_its_plan_step_by_step(client: httpx.Client) -> None:
    plan = json.dumps({"steps": ["Look it up.", "Tell it."]}).encode().hex()
    seen = ask(client, f"sim-say:{plan}", agent="plan_execute", model="sim-n3")
    assert seen[-1].name == "turn.completed", seen[-1]
    shown = [[step["state"] for step in data["steps"]] for data in named(seen, "plan")]
    assert shown == [["running", "pending"], ["completed", "running"], ["completed"] * 2]
    assert len(seen[-1].data["answer"].split()) == 3
    assert text_of(seen) == seen[-1].data["answer"]


@pytest.mark.promise("TEAM-06")
def test_model_that_cannot_plan_answers_directly_and_says_so(client: httpx.Client) -> None:
    """The built-in one is such a model."""
    seen = execute(client, "plan_execute", "What is 17*23+4?", model="offline")
    assert "395" in seen[-1].data["answer"]
    (plan,) = named(seen, "plan")
    assert (plan["steps"], bool(plan["note"])) == ([], True)
