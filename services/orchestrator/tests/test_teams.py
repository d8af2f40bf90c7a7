"""Agents that plan and agents that hand work to others, as durable tasks (R-01, R-02, R-07)."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from meshwright.orchestrator.v1 import (
    agent_pb2,
    agent_registry_service_pb2,
    agent_service_pb2,
    task_pb2,
)
from meshwright.types.v1 import plan_pb2
from meshwright_common.errors import ServiceError
from meshwright_common.testing.waiting import eventually
from services.orchestrator.tests.mesh import (
    SWEEPING,
    Mesh,
    Stubs,
    acting,
    kinds,
    request,
    run,
    text_of,
)
from services.orchestrator.tests.peers import Say, question_of
from services.orchestrator.tests.processes import orchestrator, peers_on_a_port

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]

PLANNING = "Price"
"""Beginning of the question that gets a plan."""


def hand(*pairs: tuple[str, str]) -> list[tuple[str, str]]:
    """Return calls that hand work to agents."""
    return [
        ("delegate", json.dumps({"agent": agent, "message": message})) for agent, message in pairs
    ]


def team(mesh: Mesh) -> None:
    """Let the supervisor ask two agents at once and put their answers together."""
    mesh.models.scripts = {
        "Ask both": [Say(calls=hand(("rag", "Left?"), ("tool_call", "Right?"))), Say(["Both."])],
        "Left?": [Say(["It is left."])],
        "Right?": [Say(["It is right."])],
    }


def told_to(mesh: Mesh, question: str) -> list[Any]:
    """Return what the model was given as results of tools when it was last asked this."""
    last = [one for one in mesh.models.requests if question_of(one).startswith(question)][-1]
    return [json.loads(message.parts[0].text) for message in last.messages if message.tool_call_id]


def asked(mesh: Mesh) -> Counter[str]:
    """Return how often the model was asked each question."""
    return Counter(question_of(one) for one in mesh.models.requests)


async def states(mesh: Mesh) -> dict[str, list[str]]:
    """Return the states of all tasks by agent."""
    rows = await mesh.rows(
        "SELECT agent, state FROM orchestrator.tasks WHERE tenant_id = $1 ORDER BY agent, task_id"
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["agent"], []).append(row["state"])
    return found


async def define(stubs: Stubs, mesh: Mesh, name: str, *agents: str) -> None:
    """Define a supervisor of these agents."""
    definition = agent_pb2.AgentDefinition(type=agent_pb2.AGENT_TYPE_SUPERVISOR, agents=agents)
    with acting(mesh.colleague("agent:write")):
        await stubs.registry.DefineAgent(
            agent_registry_service_pb2.DefineAgentRequest(name=name, definition=definition)
        )


@pytest.mark.promise("TEAM-01")
async def test_supervisor_asks_agents_at_the_same_time_and_joins_their_answers(
    mesh: Mesh,
) -> None:
    team(mesh)
    together = asyncio.Barrier(2)

    async def gate(_: int) -> None:
        if question_of(mesh.models.requests[-1]) in {"Left?", "Right?"}:
            mesh.models.gate = no_gate_after
            await together.wait()

    async def no_gate_after(_: int) -> None:
        await together.wait()
        mesh.models.gate = open_gate

    async def open_gate(_: int) -> None: ...

    mesh.models.gate = gate
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request("Ask both", agent="supervisor"))
    assert events[-1].final.answer == text_of(events) == "Both."
    # An attempt that goes on tells again how they ended.
    children = [event.child for event in events if event.HasField("child")]
    assert list(dict.fromkeys((child.agent, child.state) for child in children)) == [
        ("rag", task_pb2.TASK_STATE_QUEUED),
        ("tool_call", task_pb2.TASK_STATE_QUEUED),
        ("rag", task_pb2.TASK_STATE_COMPLETED),
        ("tool_call", task_pb2.TASK_STATE_COMPLETED),
    ]
    assert [result["answer"] for result in told_to(mesh, "Ask both")] == [
        "It is left.",
        "It is right.",
    ]
    # Its own two calls and one of each child, 13 tokens each.
    usage = events[-1].final.usage
    assert usage.prompt_tokens + usage.completion_tokens == 4 * 13
    offered = {tool.name: tool for tool in mesh.models.requests[0].tools}
    assert "- rag: Searches the knowledge bases" in offered["delegate"].description


@pytest.mark.promise("TEAM-07")
async def test_usage_of_children_is_counted_once_in_the_tree(mesh: Mesh) -> None:
    """The rows of the tasks hold each task's own: their sum is what the tree consumed."""
    team(mesh)
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request("Ask both", agent="supervisor"))
        with acting(mesh.caller):
            got = await stubs.agents.GetTask(
                agent_service_pb2.GetTaskRequest(task_id=events[-1].task_id)
            )
    rows = await mesh.rows("SELECT usage FROM orchestrator.tasks WHERE tenant_id = $1")
    assert sum(row["usage"]["prompt_tokens"] for row in rows) == 4 * 10
    assert got.task.usage.prompt_tokens == 2 * 10
    assert got.task.result.usage.prompt_tokens == 4 * 10
    assert events[-1].final.usage == got.task.result.usage


@pytest.mark.promise("TEAM-03")
async def test_child_that_fails_is_a_result_that_the_supervisor_reads(mesh: Mesh) -> None:
    team(mesh)
    mesh.models.scripts = {**mesh.models.scripts, "Left?": [Say()]}
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request("Ask both", agent="supervisor"))
    assert events[-1].final.answer == "Both."
    left, right = told_to(mesh, "Ask both")
    assert left["reason"] == "PROVIDER_PROTOCOL"
    assert right["answer"] == "It is right."


async def test_supervisors_hand_work_down_several_levels(mesh: Mesh) -> None:
    mesh.models.scripts = {
        "Top": [Say(calls=hand(("middle", "Middle"))), Say(["From the top."])],
        "Middle": [Say(calls=hand(("chat", "Bottom"))), Say(["From the middle."])],
        "Bottom": [Say(["From the bottom."])],
    }
    async with mesh.process() as stubs:
        await define(stubs, mesh, "middle", "chat")
        await define(stubs, mesh, "top", "middle")
        events = await run(stubs, mesh.caller, request("Top", agent="top"))
    assert events[-1].final.answer == "From the top."
    assert told_to(mesh, "Top")[0]["answer"] == "From the middle."
    assert told_to(mesh, "Middle")[0]["answer"] == "From the bottom."
    rows = await mesh.rows(
        "SELECT agent, depth FROM orchestrator.tasks WHERE tenant_id = $1 ORDER BY depth"
    )
    assert [tuple(row) for row in rows] == [("top", 0), ("middle", 1), ("chat", 2)]


@pytest.mark.promise("TEAM-02")
async def test_circle_of_supervisors_ends_at_the_third_level(mesh: Mesh) -> None:
    """Each asks the next one; the deepest is refused, answers by itself, and all come back."""
    mesh.models.scripts = {"Round": [Say(calls=hand(("ring", "Round"))), Say(["Enough."])]}
    async with mesh.process() as stubs:
        await define(stubs, mesh, "ring", "ring")
        events = await run(stubs, mesh.caller, request("Round", agent="ring"))
    assert events[-1].final.answer == "Enough."
    assert await states(mesh) == {"ring": ["completed"] * 4}
    refused = [
        message.parts[0].text
        for one in mesh.models.requests
        for message in one.messages
        if message.tool_call_id and "BUDGET_EXCEEDED" in message.parts[0].text
    ]
    assert len(refused) == 1
    assert "max_depth" in refused[0]


@pytest.mark.promise("TEAM-04")
async def test_cancel_of_a_supervisor_cancels_its_children(mesh: Mesh) -> None:
    """R-07."""
    mesh.models.scripts = {
        "Go": [Say(calls=hand(("tool_call", "Slow?"))), Say(["Done."])],
        "Slow?": [Say(calls=[("slow", "{}")]), Say(["Never."])],
    }
    async with mesh.process() as stubs:
        running = asyncio.ensure_future(
            run(stubs, mesh.caller, request("Go", agent="supervisor", request_id="r"))
        )
        await asyncio.wait_for(mesh.tools.reached.wait(), 20)
        (row,) = await mesh.rows(
            "SELECT task_id FROM orchestrator.tasks WHERE tenant_id = $1 AND depth = 0"
        )
        with acting(mesh.caller):
            await stubs.agents.CancelTask(
                agent_service_pb2.CancelTaskRequest(task_id=str(row["task_id"]))
            )
        events = await running
        assert events[-1].error.reason == "TASK_CANCELLED"
        assert await states(mesh) == {"supervisor": ["cancelled"], "tool_call": ["cancelled"]}

        async def stopped() -> bool:
            return mesh.tools.stopped == 1

        await eventually(stopped)
    assert asked(mesh) == {"Go": 1, "Slow?": 1}


@pytest_asyncio.fixture
async def peers(mesh: Mesh, tmp_path: Path) -> Any:
    async with peers_on_a_port(mesh, tmp_path / "keys") as address:
        yield address


@pytest.mark.promise("TEAM-05")
async def test_process_that_dies_amid_a_delegation_repeats_no_child(
    mesh: Mesh, peers: str, tmp_path: Path
) -> None:
    """R-01, R-02: one child has ended, one is under way; the parent wakes once, elsewhere."""
    mesh.models.scripts = {
        "Go": [Say(calls=hand(("rag", "Quick?"), ("tool_call", "Slow?"))), Say(["Done."])],
        "Quick?": [Say(["Quick."])],
        "Slow?": [Say(calls=[("slow", "{}")]), Say(["Slow."])],
    }

    async def quick_ended() -> bool:
        return (await states(mesh)).get("rag") == ["completed"]

    async with orchestrator(mesh, tmp_path / "keys", peers) as first:
        with acting(mesh.caller):
            submitted = await first.stubs.agents.SubmitTask(
                agent_service_pb2.SubmitTaskRequest(spec=request("Go", agent="supervisor").spec)
            )
        await asyncio.wait_for(mesh.tools.reached.wait(), 20)
        await eventually(quick_ended)
        await first.kill()
    mesh.tools.gate.set()
    async with mesh.process(SWEEPING) as stubs:

        async def ended() -> bool:
            return (await states(mesh))["supervisor"] == ["completed"]

        await eventually(ended)
        with acting(mesh.caller):
            got = await stubs.agents.GetTask(
                agent_service_pb2.GetTaskRequest(task_id=submitted.task.task_id)
            )
    assert got.task.result.answer == "Done."
    assert asked(mesh) == {"Go": 2, "Quick?": 1, "Slow?": 2}
    assert {key[:3] for key in mesh.tools.ran} == {mesh.tools.ran[0][:3]}
    assert await states(mesh) == {
        "rag": ["completed"],
        "supervisor": ["completed"],
        "tool_call": ["completed"],
    }
    assert len(await mesh.events("agent.task.completed")) == 3


# --- plans ----------------------------------------------------------------------------------------


def planned(mesh: Mesh) -> None:
    """Let the model plan two steps, one of them with a tool."""
    mesh.models.scripts = {
        PLANNING: [Say(['{"steps": ["Look it up.", "Multiply it."]}'])],
        "Do step 1": [Say(calls=[("add", '{"numbers": [3, 4]}')]), Say(["It is 7."])],
        "Do step 2": [Say(["Twice 7 is 14."])],
        "Answer the question": [Say(["It costs 14."])],
    }


@pytest.mark.promise("TEAM-06")
async def test_plan_is_told_as_it_goes_on(mesh: Mesh) -> None:
    planned(mesh)
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request(f"{PLANNING}?", agent="plan_execute"))
    assert kinds(events) == [
        *("started", "plan", "checkpoint", "checkpoint"),
        *("tool_call", "tool_result", "checkpoint"),
        *("chunk", "plan", "checkpoint", "chunk", "plan", "checkpoint", "chunk"),
        *("checkpoint", "final"),
    ]
    plans = [event.plan for event in events if event.HasField("plan")]
    assert [step.text for step in plans[0].steps] == ["Look it up.", "Multiply it."]
    done, doing, pending = (
        plan_pb2.PLAN_STEP_STATE_COMPLETED,
        plan_pb2.PLAN_STEP_STATE_RUNNING,
        plan_pb2.PLAN_STEP_STATE_PENDING,
    )
    assert [[step.state for step in plan.steps] for plan in plans] == [
        [doing, pending],
        [done, doing],
        [done, done],
    ]
    assert events[-1].final.answer == text_of(events) == "It costs 14."
    reasoning = "".join(event.chunk.reasoning for event in events)
    assert reasoning == "It is 7.Twice 7 is 14."


@pytest.mark.promise("TEAM-05")
async def test_plan_goes_on_in_another_process_and_repeats_no_step(
    mesh: Mesh, peers: str, tmp_path: Path
) -> None:
    """R-01, R-02, R-04: what is journaled of the plan is told again, not made again."""
    planned(mesh)
    mesh.models.scripts = {
        **mesh.models.scripts,
        "Do step 1": [Say(calls=[("slow", "{}")]), Say(["It is 7."])],
    }
    asking = request(f"{PLANNING}?", agent="plan_execute", request_id="r1")
    async with orchestrator(mesh, tmp_path / "keys", peers) as first:
        reading = asyncio.ensure_future(run(first.stubs, mesh.caller, asking))
        await asyncio.wait_for(mesh.tools.reached.wait(), 20)
        await first.kill()
        with pytest.raises(ServiceError):
            await reading
    mesh.tools.gate.set()
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, asking)
    assert events[-1].final.answer == text_of(events) == "It costs 14."
    assert len([event for event in events if event.HasField("plan")]) == 3
    counts = asked(mesh)
    assert counts[f"{PLANNING}?"] == 1
    assert {question: count for question, count in counts.items() if "step" in question} == {
        "Do step 1 of the plan now, only this one. Answer with its result.": 2,
        "Do step 2 of the plan now, only this one. Answer with its result.": 1,
    }


async def test_model_that_cannot_plan_still_answers(mesh: Mesh) -> None:
    mesh.models.script = [Say(["I cannot plan."])]
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request("What is it?", agent="plan_execute"))
    assert events[-1].final.answer == text_of(events) == "I cannot plan."
    (plan,) = [event.plan for event in events if event.HasField("plan")]
    assert not plan.steps
    assert plan.note
    assert len(mesh.models.requests) == 3
