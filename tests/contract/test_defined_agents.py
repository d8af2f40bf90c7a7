"""Agents that a tenant defines, through the public surface."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from meshwright_cli.exits import Exit
from meshwright_common.ids import new_id
from tests.asking import ask, eventually
from tests.platform_process import Platform, run_command
from tests.tenants import NewTenant, new_tenant

AGENT = "/api/v1/agents/helper"
EXAMPLE = Path(__file__).resolve().parents[2] / "docs/examples/support.yaml"
TASKS = 60
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["city", "people"],
}


def saying(text: str) -> dict[str, str]:
    """Return the policy of a model that says this, whatever it is asked."""
    return {"model": f"sim-say:{text.encode().hex()}"}


@pytest.fixture
def tenant(platform: Platform) -> NewTenant:
    return new_tenant(platform)


@pytest.fixture
def client(platform: Platform, tenant: NewTenant) -> Iterator[httpx.Client]:
    with platform.client(tenant.api_key) as opened:
        yield opened


def define(
    client: httpx.Client, name: str = "helper", traffic_percent: int | None = None, **more: Any
) -> dict[str, Any]:
    """Define an agent and return its version."""
    definition = {"type": "chat", **more}
    body = {"definition": definition, "traffic_percent": traffic_percent}
    answer = client.put(f"/api/v1/agents/{name}", json=body)
    assert answer.status_code == 200, answer.text
    version: dict[str, Any] = answer.json()
    return version


def ended(client: httpx.Client, agent: str = "helper", **more: Any) -> dict[str, Any]:
    """Hand a task to the workers and return it when it has ended."""
    body = {"agent": agent, "message": "Which city?", **more}
    task: dict[str, Any] = client.post("/api/v1/tasks", json=body).json()

    def is_ended() -> bool:
        task.update(client.get(f"/api/v1/tasks/{task['task_id']}").json())
        return task["end_time"] is not None

    eventually(is_ended)
    return task


def version_of(client: httpx.Client, session_id: str = "") -> int:
    """Return the version that a new task gets."""
    body = {"agent": "helper", "message": "Hello", "session_id": session_id or None}
    task = client.post("/api/v1/tasks", json=body).json()
    return int(task["agent_version"])


@pytest.mark.promise("AGENT-02", "AGENT-07")
def test_a_defined_agent_answers_in_chat_and_as_a_task(client: httpx.Client) -> None:
    assert define(client, model_policy=saying("From the first."))["version"] == 1
    turn = ask(client, "Hello", agent="helper")
    assert "".join(event.data.get("text", "") for event in turn) == "From the first."
    assert define(client, model_policy=saying("From the second."))["version"] == 2
    assert define(client, model_policy=saying("From the second."))["version"] == 2
    task = ended(client)
    assert (task["result"]["answer"], task["agent_version"]) == ("From the second.", 2)
    refused = client.put(AGENT, json={"definition": {"type": "chat"}, "expected_version": 1})
    assert (refused.status_code, refused.json()["code"]) == (409, "CONFLICT")
    rolled = client.post(f"{AGENT}/rollback", json={"version": 1}).json()
    assert rolled["definition"]["model_policy"]["model"].startswith("sim-say:")
    assert ended(client)["result"]["answer"] == "From the first."


@pytest.mark.promise("AGENT-01", "AGENT-03")
@pytest.mark.parametrize("platform", ["together"], indirect=True)
def test_new_tasks_are_shared_out_and_sessions_stay(client: httpx.Client) -> None:
    define(client, instructions="1")
    define(client, instructions="2", traffic_percent=50)
    counted = Counter(version_of(client) for _ in range(TASKS))
    # Five standard deviations of a fair coin thrown sixty times.
    assert abs(counted[1] - TASKS / 2) < 19.5
    for session in [new_id() for _ in range(5)]:
        assert len({version_of(client, session) for _ in range(3)}) == 1
    task = client.post("/api/v1/tasks", json={"agent": "helper", "message": "Hi"}).json()
    client.post(f"{AGENT}/rollback", json={"version": 2})
    assert {version_of(client) for _ in range(10)} == {2}
    again = client.get(f"/api/v1/tasks/{task['task_id']}").json()
    assert again["agent_version"] == task["agent_version"]
    shares = {
        one["version"]: one["traffic_percent"]
        for one in client.get(f"{AGENT}/versions").json()["versions"]
    }
    assert shares == {1: 0, 2: 100}


@pytest.mark.promise("AGENT-05")
@pytest.mark.parametrize("platform", ["together"], indirect=True)
def test_output_fits_the_schema_or_the_task_says_why_not(client: httpx.Client) -> None:
    said = {"city": "Bern", "people": 134000}
    define(client, output_schema=SCHEMA, model_policy=saying(json.dumps(said)))
    task = ended(client)
    assert task["result"]["output"] == said
    assert json.loads(task["result"]["answer"]) == said
    define(client, output_schema=SCHEMA, model_policy=saying('{"city": "Bern"}'))
    task = ended(client)
    assert (task["state"], task["error"]["reason"]) == ("failed", "OUTPUT_INVALID")
    assert "'people' is a required property" in task["error"]["message"]
    # The built-in model writes what a schema asks for by itself.
    define(client, output_schema=SCHEMA, model_policy={"model": "offline"})
    task = ended(client)
    assert sorted(task["result"]["output"]) == ["city", "people"]


@pytest.mark.promise("AGENT-06")
@pytest.mark.parametrize("platform", ["together"], indirect=True)
def test_agents_of_the_same_name_are_each_tenants_own(
    platform: Platform, client: httpx.Client
) -> None:
    define(client, model_policy=saying("Ours."))
    with platform.client(new_tenant(platform).api_key) as stranger:
        assert stranger.get(AGENT).status_code == 404
        assert stranger.get(f"{AGENT}/versions").status_code == 404
        refused = stranger.post("/api/v1/tasks", json={"agent": "helper", "message": "Hi"})
        assert refused.json()["code"] == "AGENT_NOT_FOUND"
        define(stranger, model_policy=saying("Theirs."))
        assert ended(stranger)["result"]["answer"] == "Theirs."
    assert ended(client)["result"]["answer"] == "Ours."
    assert len(client.get(f"{AGENT}/versions").json()["versions"]) == 1


@pytest.mark.promise("AGENT-08")
@pytest.mark.parametrize("platform", ["together"], indirect=True)
def test_a_guard_that_is_off_reads_what_agents_say_that_name_it(client: httpx.Client) -> None:
    guard = {"action": "redact", "disabled": True, "words": {"phrases": ["Bern"]}}
    assert client.put("/api/v1/guards/no-bern", json=guard).status_code == 200
    bern = saying("It is Bern.")
    define(client, "careless", model_policy=bern)

    def is_redacted() -> bool:
        # Replicas hear of the guard within two seconds; until then the call is refused.
        task = ended(client)
        return task["result"] is not None and "Bern" not in task["result"]["answer"]

    define(client, model_policy=bern, output_guards=["no-bern"])
    eventually(is_redacted)
    assert ended(client, "careless")["result"]["answer"] == "It is Bern."
    wrong = {"definition": {"type": "chat", "input_guards": ["nobody"]}}
    problem = client.put(AGENT, json=wrong).json()
    assert problem["errors"][0]["field"] == "definition.input_guards.0"


@pytest.mark.promise("AGENT-07")
@pytest.mark.parametrize("platform", ["together"], indirect=True)
def test_an_agent_is_defined_by_a_file_and_rolled_back(
    platform: Platform, tenant: NewTenant, tmp_path: Path
) -> None:
    def agents(*words: str) -> subprocess.CompletedProcess[str]:
        return run_command("agents", *words, "--url", platform.url, "--key", tenant.api_key)

    first = agents("define", str(EXAMPLE))
    assert first.returncode == Exit.OK, first.stderr
    assert first.stdout == "support version 1: 100 % of new tasks\n"
    file = tmp_path / "agent.yaml"
    file.write_text(agents("show", "support").stdout.replace("type: rag", "type: tool_call"))
    second = agents("define", str(file), "--traffic", "10", "--comment", "Try it.")
    assert second.stdout == "support version 2: 10 % of new tasks\n", second.stderr
    rolled = agents("rollback", "support", "1")
    assert rolled.stdout == "support version 1: 100 % of new tasks\n"
    versions = json.loads(agents("versions", "support", "--json").stdout)
    assert [(one["version"], one["comment"]) for one in versions] == [(2, "Try it."), (1, "")]
    file.write_text("name: support\n")
    assert agents("define", str(file)).returncode == Exit.REFUSED
