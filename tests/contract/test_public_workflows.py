"""Workflows through the public API and the commands of a running platform."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from meshwright_cli.exits import Exit
from meshwright_common.ids import new_id
from meshwright_common.workflows import (
    Workflow,
    approval,
    chain,
    compensate,
    condition,
    each,
    group,
    step,
    tool,
    workflow,
)
from tests.asking import eventually
from tests.platform_process import Platform, run_command
from tests.tenants import NewTenant, new_tenant

PATH: Final = "/api/v1/workflows"
Json = dict[str, Any]


@pytest.fixture
def tenant(platform: Platform) -> NewTenant:
    """A tenant of its own."""
    return new_tenant(platform)


@pytest.fixture
def client(platform: Platform, tenant: NewTenant) -> Iterator[httpx.Client]:
    """The owner's client."""
    with platform.client(tenant.api_key) as owner:
        yield owner


def compute(expression: str) -> Any:
    """Return the action that computes something."""
    return tool("calculator", expression=expression)


def in_python(name: str) -> Workflow:
    """Return a workflow made by functions."""
    return workflow(
        name,
        chain(
            group(
                compensate(step("sum", compute("${input.a} + ${input.b}")), compute("0 - 1")),
                each("[1, 2, 3]", step("squares", compute("${item} * ${item}")), at_once=2),
            ),
            condition("input.asks", step("ask", approval("Tell ${steps.sum.output.value}?"))),
            step("last", compute("${steps.sum.output.value} * 2")),
        ),
        output="{'twice': steps.last.output.value, 'last': steps.squares.output[2].value}",
    )


IN_YAML: Final = """
name: {name}
steps:
  - name: sum
    action: {{tool: {{tool: calculator, arguments: {{expression: "${{input.a}} + ${{input.b}}"}}}}}}
    compensation: {{tool: {{tool: calculator, arguments: {{expression: 0 - 1}}}}}}
  - name: squares
    action: {{tool: {{tool: calculator, arguments: {{expression: "${{item}} * ${{item}}"}}}}}}
    for_each: "[1, 2, 3]"
    max_parallel: 2
  - name: ask
    after: [sum, squares]
    condition: input.asks
    action: {{approval: {{question: "Tell ${{steps.sum.output.value}}?"}}}}
  - name: last
    after: [ask]
    action:
      tool:
        tool: calculator
        arguments: {{expression: "${{steps.sum.output.value}} * 2"}}
output: "{{'twice': steps.last.output.value, 'last': steps.squares.output[2].value}}"
"""


def stored(client: httpx.Client, flow: Workflow, **more: object) -> Json:
    """Store a workflow and return it."""
    body = {"name": flow.name, "definition": flow.definition, **more}
    answer = client.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def started(client: httpx.Client, flow: Json, **given: object) -> Json:
    """Start a run and return it."""
    answer = client.post(f"{PATH}/{flow['workflow_id']}/runs", json={"input": given})
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"{PATH}/runs/{answer.json()['run_id']}"
    run: Json = answer.json()
    return run


def reached(client: httpx.Client, run: Json, *states: str) -> Json:
    """Return the run when it is in one of the states."""
    found: Json = {}

    def is_there() -> bool:
        found.update(client.get(f"{PATH}/runs/{run['run_id']}").json())
        return found["state"] in states

    eventually(is_there)
    return found


@pytest.mark.promise("FLOW-01")
@pytest.mark.promise("FLOW-06")
def test_a_workflow_runs_to_its_end_and_asks_on_its_way(client: httpx.Client) -> None:
    flow = stored(client, in_python(f"flow-{new_id()}"))
    run = reached(client, started(client, flow, a=20, b=1, asks=True), "waiting", "failed")
    (ask,) = [one for one in run["steps"] if one["interrupt_id"]]
    assert [one["state"] for one in run["steps"]] == [
        *("completed", "completed", "waiting", "pending"),
    ]
    answer = {"interrupt_id": ask["interrupt_id"], "answer": {"approved": True}}
    client.post(f"/api/v1/tasks/{ask['child_ids'][-1]}/resume", json=answer).raise_for_status()

    run = reached(client, run, "completed", "failed")
    assert run["output"] == {"twice": "42", "last": "9"}, run
    kinds = [one["kind"] for one in client.get("/api/v1/notifications").json()["notifications"]]
    assert "workflow.completed" in kinds or _told(client, "workflow.completed")
    picture = client.get(f"{PATH}/runs/{run['run_id']}/graph")
    assert picture.headers["content-type"] == "image/svg+xml"
    assert picture.text.count("<rect") >= len(run["steps"])
    assert "http" not in picture.text.replace("http://www.w3.org/2000/svg", "")
    drawn = client.get(f"{PATH}/runs/{run['run_id']}/graph?format=mermaid").text
    assert drawn.count("-->") == 3


def _told(client: httpx.Client, kind: str) -> bool:
    def is_told() -> bool:
        told = client.get("/api/v1/notifications").json()["notifications"]
        return kind in [one["kind"] for one in told]

    eventually(is_told)
    return True


@pytest.mark.promise("FLOW-08")
@pytest.mark.promise("FLOW-07")
@pytest.mark.parametrize("platform", ["together"], indirect=True)
def test_yaml_and_python_are_one_and_a_run_is_a_tree(
    platform: Platform, tenant: NewTenant, client: httpx.Client, tmp_path: Path
) -> None:
    name = f"flow-{new_id()}"

    def flows(*words: str) -> subprocess.CompletedProcess[str]:
        return run_command("workflows", *words, "--url", platform.url, "--key", tenant.api_key)

    assert stored(client, in_python(name), expected_version=0)["version"] == 1
    file = tmp_path / "flow.yaml"
    file.write_text(IN_YAML.format(name=name), encoding="utf-8")
    assert flows("create", str(file)).stdout == f"{name} 1\n"
    file.write_text(in_python(name).yaml(), encoding="utf-8")
    assert flows("create", str(file)).stdout == f"{name} 1\n"

    begun = flows("start", name, "--input", '{"a": 1, "b": 2, "asks": false}')
    assert begun.returncode == Exit.OK, begun.stderr
    run = reached(client, {"run_id": begun.stdout.strip()}, "completed", "failed")
    tree = flows("show", run["run_id"]).stdout
    assert "✓ sum" in tree, tree
    assert "– ask" in tree
    assert f"{name} 1 · completed" in tree
    assert run["run_id"] in flows("runs", name, "--state", "completed").stdout
    assert flows("cancel", run["run_id"]).stdout == "completed\n"


@pytest.mark.promise("FLOW-05")
def test_a_wrong_workflow_names_step_and_field(client: httpx.Client) -> None:
    wrong = {"name": "one", "action": {"delay": "1s"}, "after": ["nowhere"]}
    answer = client.post(PATH, json={"name": "wrong", "definition": {"steps": [wrong]}})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "definition.steps.0.after"
    assert "one" in answer.json()["errors"][0]["message"]
    assert client.get(PATH).json()["workflows"] == []
