"""Tasks that wait, as their readers, their owners and other processes see them."""

import asyncio
import json
from typing import Any

import pytest

from meshwright.orchestrator.v1 import agent_pb2, agent_service_pb2, task_pb2
from meshwright_common.errors import FailedPrecondition, NotFound
from meshwright_common.rpc.stream import open_stream
from meshwright_common.testing.waiting import eventually
from services.orchestrator.tests.mesh import (
    FAST,
    Mesh,
    Stubs,
    acting,
    kinds,
    request,
    run,
    text_of,
)
from services.orchestrator.tests.peers import Say, question_of
from services.orchestrator.tests.people import answer, asked_of, define, open_for, submit

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]

ADD = ("add", '{"numbers": [1, 2]}')
APPROVED = {"approved": True}
SUPERVISOR = agent_pb2.AGENT_TYPE_SUPERVISOR
UNHEARD = FAST.model_copy(update={"task_lease_seconds": 60, "lease_renew_seconds": 30})
"""What is not told, is not found out in the time of a test."""


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


async def replay(stubs: Stubs, mesh: Mesh, task_id: str) -> tuple[bool, int]:
    """Return whether a task's journal is what would be done today, and where it is not."""
    with acting(mesh.caller):
        told = await stubs.agents.ReplayTask(agent_service_pb2.ReplayTaskRequest(task_id=task_id))
    return told.identical, told.first_difference


async def cancel(stubs: Stubs, mesh: Mesh, task_id: str) -> task_pb2.Task:
    """Cancel a task."""
    with acting(mesh.caller):
        asked = agent_service_pb2.CancelTaskRequest(task_id=task_id)
        task: task_pb2.Task = (await stubs.agents.CancelTask(asked)).task
    return task


@pytest.mark.promise("WAIT-01")
async def test_a_waiting_task_outlives_its_process_and_goes_on_in_another(mesh: Mesh) -> None:
    """Its reader is told what it waits for, and by another process what came of it."""
    mesh.models.script = [Say(["Adding."], [ADD]), Say(["Done."])]
    seen: list[task_pb2.TaskEvent] = []

    async def read(call: Any) -> None:
        async with open_stream(call) as responses:
            async for response in responses:
                # Each at once, for the test to see.
                seen.append(response.event)  # noqa: PERF401

    async with mesh.process() as here:
        await define(here, mesh, tools=["add"], approval_tools=["add"])
        with acting(mesh.caller):
            call = here.agents.ExecuteTask(request("Go", agent="clerk"))
            reading = asyncio.ensure_future(read(call))
        await eventually(lambda: "interrupt" in kinds(seen))
    # Its connection went with the process.
    await asyncio.wait({reading})
    assert kinds(seen) == ["started", "chunk", "checkpoint", "interrupt"]
    task_id = seen[0].task_id
    (row,) = await mesh.rows(
        "SELECT state, lease_expires_at = 'infinity' AS unowned, attempt FROM orchestrator.tasks"
        " WHERE tenant_id = $1"
    )
    assert tuple(row.values()) == ("waiting", True, 1)

    async with mesh.process() as there:
        watched = agent_service_pb2.WatchTaskRequest(
            task_id=task_id, after_sequence=seen[-1].sequence
        )
        with acting(mesh.caller):
            reading = asyncio.ensure_future(read(there.agents.WatchTask(watched)))
        await eventually(lambda: kinds(seen).count("interrupt") == 2)
        await answer(there, mesh.caller, task_id, seen[-1].interrupt.interrupt_id, APPROVED)
        await reading
        assert await replay(there, mesh, task_id) == (True, 0)
    assert seen[-1].final.answer == text_of(seen) == "Adding.\n\nDone."
    assert len(mesh.models.requests) == 2
    assert len(mesh.tools.ran) == 1


async def answer_the_next(stubs: Stubs, mesh: Mesh) -> None:
    """Approve what is asked as soon as something is."""
    found: list[Any] = []

    async def is_asked() -> bool:
        found[:] = (await open_for(stubs, mesh.caller)).interrupts
        return bool(found)

    await eventually(is_asked)
    (asked,) = found
    await answer(stubs, mesh.caller, asked.task_id, asked.interrupt.interrupt_id, APPROVED)


@pytest.mark.promise("WAIT-01")
async def test_waits_are_no_attempts_that_failed(mesh: Mesh) -> None:
    section = FAST.model_copy(update={"max_attempts": 1})
    mesh.models.script = [Say([], [ADD]), Say([], [ADD]), Say(["Done."])]
    async with mesh.process(section) as stubs:
        await define(stubs, mesh, tools=["add"], approval_tools=["add"])
        with acting(mesh.caller):
            reading = asyncio.ensure_future(run(stubs, mesh.caller, request("Go", agent="clerk")))
        for _ in range(2):
            await answer_the_next(stubs, mesh)
        events = await reading
    assert events[-1].final.answer == "Done."
    assert events[-1].attempt == 3


@pytest.mark.promise("WAIT-03")
async def test_no_call_begins_when_the_budget_of_the_tree_is_used_up(mesh: Mesh) -> None:
    """Its own step and one of each child: the two were under way when the second was counted."""
    team(mesh)
    asked = request("Ask both", agent="supervisor", budget=task_pb2.TaskBudget(max_steps=2))
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, asked)
    failure = events[-1].error
    assert (failure.reason, failure.retryable) == ("BUDGET_EXCEEDED", False)
    assert "max_steps is 2" in failure.message
    assert 2 <= len(mesh.models.requests) <= 3
    assert [question_of(one) for one in mesh.models.requests].count("Ask both") == 1


@pytest.mark.promise("WAIT-03")
@pytest.mark.parametrize(
    "budget",
    [{"max_tokens": 13}, {"max_steps": 1}],
    ids=["tokens", "steps"],
)
async def test_no_tool_is_called_beyond_the_budget_of_a_task(
    mesh: Mesh, budget: dict[str, int]
) -> None:
    mesh.models.script = [Say([], [ADD]), Say(["Done."])]
    asked = request(budget=task_pb2.TaskBudget(**budget))
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, asked)
    ((name, limit),) = budget.items()
    assert f"{name} is {limit}" in events[-1].error.message
    assert (len(mesh.models.requests), mesh.tools.ran) == (1, [])


@pytest.mark.promise("WAIT-03")
async def test_a_tree_is_no_deeper_than_it_may_be(mesh: Mesh) -> None:
    """The model is told, and goes on without what it may not hand out."""
    mesh.models.scripts = {
        "Top": [Say(calls=hand(("deputy", "Middle"))), Say(["Without them."])],
        "Middle": [Say(calls=hand(("rag", "Bottom"))), Say(["Never."])],
    }
    asked = request("Top", agent="chief", budget=task_pb2.TaskBudget(max_depth=1))
    async with mesh.process() as stubs:
        for name, below in (("deputy", "rag"), ("chief", "deputy")):
            await define(stubs, mesh, name, type=SUPERVISOR, agents=[below])
        events = await run(stubs, mesh.caller, asked)
    assert events[-1].final.answer == "Without them."
    assert {question_of(one) for one in mesh.models.requests} == {"Top", "Middle"}
    (told,) = [
        message.parts[0].text
        for one in mesh.models.requests
        if question_of(one) == "Middle"
        for message in one.messages
        if message.tool_call_id
    ]
    assert json.loads(told)["reason"] == "BUDGET_EXCEEDED"
    rows = await mesh.rows("SELECT depth FROM orchestrator.tasks WHERE tenant_id = $1")
    assert sorted(row["depth"] for row in rows) == [0, 1]


@pytest.mark.promise("WAIT-03")
async def test_a_tree_has_no_more_tasks_than_it_may(mesh: Mesh) -> None:
    team(mesh)
    asked = request("Ask both", agent="supervisor", budget=task_pb2.TaskBudget(max_tasks=2))
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, asked)
    assert events[-1].final.answer == "Both."
    assert {question_of(one) for one in mesh.models.requests} == {"Ask both"}
    told = [part.parts[0].text for part in mesh.models.requests[-1].messages if part.tool_call_id]
    assert [json.loads(text)["reason"] for text in told] == ["BUDGET_EXCEEDED"] * 2


@pytest.mark.promise("WAIT-04")
async def test_cancel_of_a_task_ends_the_calls_of_its_children_wherever_they_run(
    mesh: Mesh,
) -> None:
    team(mesh)

    async def hold_the_children(_: int) -> None:
        if mesh.models.running > 0 and len(mesh.models.requests) > 1:
            await asyncio.get_running_loop().create_future()

    mesh.models.gate = hold_the_children
    asked = request("Ask both", agent="supervisor")
    async with mesh.process(UNHEARD) as here, mesh.process(UNHEARD) as there:
        with acting(mesh.caller):
            reading = asyncio.ensure_future(run(here, mesh.caller, asked))
        await eventually(lambda: mesh.models.running == 2)
        (row,) = await mesh.rows(
            "SELECT task_id FROM orchestrator.tasks WHERE tenant_id = $1 AND depth = 0"
        )
        task = await cancel(there, mesh, row["task_id"])
        await eventually(lambda: mesh.models.running == 0)
        events = await reading
    assert task.state == task_pb2.TASK_STATE_CANCELLED
    assert events[-1].error.reason == "TASK_CANCELLED"
    assert len(mesh.models.requests) == 3
    rows = await mesh.rows("SELECT state FROM orchestrator.tasks WHERE tenant_id = $1")
    assert {row["state"] for row in rows} == {"cancelled"}


@pytest.mark.promise("WAIT-04")
async def test_cancel_in_another_process_ends_calls_before_the_lease_is_renewed(
    mesh: Mesh,
) -> None:
    """R-07: within two seconds; the lease would tell in half a minute."""
    mesh.models.script = [Say([], [("slow", "{}")]), Say(["Too late."])]
    async with mesh.process(UNHEARD) as here, mesh.process(UNHEARD) as there:
        with acting(mesh.caller):
            reading = asyncio.ensure_future(run(here, mesh.caller, request("Go")))
        await mesh.tools.reached.wait()
        (row,) = await mesh.rows("SELECT task_id FROM orchestrator.tasks WHERE tenant_id = $1")
        await cancel(there, mesh, row["task_id"])
        await eventually(lambda: mesh.tools.stopped == 1)
        events = await reading
    assert events[-1].error.reason == "TASK_CANCELLED"
    assert len(mesh.models.requests) == 1


@pytest.mark.promise("WAIT-04")
async def test_a_waiting_task_can_be_cancelled_and_its_question_is_closed(mesh: Mesh) -> None:
    mesh.models.script = [Say([], [ADD]), Say(["Done."])]
    async with mesh.process() as stubs:
        await define(stubs, mesh, tools=["add"], approval_tools=["add"])
        task_id = await submit(stubs, mesh, "clerk")
        (asked,) = await asked_of(stubs, mesh, task_id)
        assert (await cancel(stubs, mesh, task_id)).state == task_pb2.TASK_STATE_CANCELLED
        with pytest.raises(FailedPrecondition):
            await answer(stubs, mesh.caller, task_id, asked.interrupt_id, APPROVED)
    assert mesh.tools.ran == []


@pytest.mark.promise("WAIT-05")
async def test_a_journal_is_replayed_without_a_call(mesh: Mesh) -> None:
    team(mesh)
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request("Ask both", agent="supervisor"))
        calls = len(mesh.models.requests)
        assert await replay(stubs, mesh, events[-1].task_id) == (True, 0)
        assert len(mesh.models.requests) == calls
        asked = agent_service_pb2.ReplayTaskRequest(task_id=events[-1].task_id)
        with acting(mesh.colleague()), pytest.raises(NotFound):
            await stubs.agents.ReplayTask(asked)


@pytest.mark.promise("WAIT-05")
async def test_a_replay_names_the_first_step_that_differs(mesh: Mesh) -> None:
    """As if the decider had changed: the same journal with other bounds decides otherwise."""
    mesh.models.script = [Say([], [ADD]), Say(["Done."])]
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request("Go"))
        task_id = events[-1].task_id
        assert await replay(stubs, mesh, task_id) == (True, 0)
        await mesh.rows(
            "UPDATE orchestrator.tasks SET limits = jsonb_set(limits, '{max_steps}', '1')"
            " WHERE tenant_id = $1 RETURNING task_id"
        )
        identical, step = await replay(stubs, mesh, task_id)
    assert not identical
    assert step > 1
