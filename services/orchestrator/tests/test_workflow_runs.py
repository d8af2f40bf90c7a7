"""Runs that meet people, time, cancelling, crashes and other processes."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from meshwright.orchestrator.v1 import workflow_service_pb2
from meshwright_common.errors import Aborted, AlreadyExists, NotFound
from meshwright_common.testing.waiting import eventually
from services.orchestrator.tests.mesh import SWEEPING, Mesh, Stubs, acting
from services.orchestrator.tests.people import answer
from services.orchestrator.tests.processes import (
    ProcessEnded,
    Running,
    orchestrator,
    peers_on_a_port,
)
from services.orchestrator.tests.workflows import (
    add,
    author,
    created,
    ended,
    output,
    read,
    started,
    state,
    states,
    tool,
)

pytestmark = pytest.mark.asyncio
QUICK = {"max_attempts": 3, "first_delay": "0.1s"}


async def waiting_step(stubs: Stubs, mesh: Mesh, run: Any) -> Any:
    """Wait until a step of the run asks somebody; return it."""
    found: list[Any] = []

    async def asks() -> bool:
        seen = await read(stubs, mesh.caller, run.run_id)
        found[:] = [step for step in seen.steps if step.interrupt_id]
        return bool(found) and state(seen) == "waiting"

    await eventually(asks)
    return found[0]


@pytest.mark.promise("FLOW-06")
@pytest.mark.parametrize(("approved", "ends"), [(True, "completed"), (False, "failed")])
async def test_an_approval_waits_without_a_worker(mesh: Mesh, approved: bool, ends: str) -> None:
    """Also over the end of the process that asked."""
    caller = author(mesh)
    async with mesh.process() as stubs:
        workflow = await created(
            stubs,
            caller,
            {"name": "ask", "action": {"approval": {"question": "Send ${input.what}?"}}},
            add("send", 1, after=["ask"]),
        )
        run = await started(stubs, caller, workflow, what="it")
        await waiting_step(stubs, mesh, run)
    async with mesh.process() as stubs:
        step = await waiting_step(stubs, mesh, run)
        assert states(await read(stubs, caller, run.run_id))["send"] == "pending"
        await answer(stubs, caller, step.child_ids[-1], step.interrupt_id, {"approved": approved})
        run = await ended(stubs, caller, run)
    assert state(run) == ends, run
    assert len(mesh.tools.ran) == (1 if approved else 0)
    if not approved:
        assert run.error.reason == "APPROVAL_REFUSED"


async def test_failed_attempts_are_tried_again_and_then_no_more(mesh: Mesh) -> None:
    """Each attempt is a call of its own; errors that last are tried once."""
    caller = author(mesh)
    async with mesh.process() as stubs:
        workflow = await created(
            stubs,
            caller,
            # A list of texts has no sum: the tool's server breaks.
            {"name": "broken", "action": tool("add", numbers=["x"]), "retry": QUICK},
        )
        run = await ended(stubs, caller, await started(stubs, caller, workflow))
    assert state(run) == "failed"
    assert run.steps[0].attempt == 3
    assert len({task_id for task_id, *_ in mesh.tools.ran}) == 3


async def test_a_delay_and_a_timeout_are_kept(mesh: Mesh) -> None:
    """Time passes without a worker; an attempt that takes too long is stopped."""
    caller = author(mesh)
    async with mesh.process() as stubs:
        workflow = await created(
            stubs,
            caller,
            {"name": "nap", "action": {"delay": "1s"}},
            {
                "name": "slow",
                "action": tool("slow"),
                "timeout": "1s",
                "retry": {"max_attempts": 1},
            },
        )
        run = await ended(stubs, caller, await started(stubs, caller, workflow))
        assert run.error.reason == "TASK_EXPIRED", run
        await eventually(lambda: mesh.tools.stopped == 1)
    assert states(run)["nap"] in ("completed", "cancelled")


@pytest.mark.promise("FLOW-04")
@pytest.mark.promise("FLOW-03")
async def test_cancel_answers_when_nothing_more_starts_and_undoes(mesh: Mesh) -> None:
    """Promise FLOW-04: the calls of its steps have ended, compensations follow."""
    caller = author(mesh)
    async with mesh.process() as stubs:
        inner = {"name": "slow", "action": tool("slow"), "timeout": "60s"}
        await created(stubs, caller, inner, name="inner")
        workflow = await created(
            stubs,
            caller,
            add("first", 1, compensation=tool("add", numbers=["${output.sum}", 41])),
            {"name": "sub", "action": {"subworkflow": {"workflow": "inner"}}, "after": ["first"]},
            add("last", 1, after=["sub"]),
        )
        run = await started(stubs, caller, workflow)
        await mesh.tools.reached.wait()
        with acting(caller):
            cancelled = await stubs.workflows.CancelRun(
                workflow_service_pb2.CancelRunRequest(run_id=run.run_id)
            )
        assert state(cancelled.run) == "cancelled"
        await eventually(lambda: mesh.tools.stopped == 1)
        run = await ended(stubs, caller, run)
        below = await read(stubs, caller, run.steps[1].child_ids[0])
        listed = await stubs_runs(stubs, caller)
    assert state(run) == "cancelled"
    assert state(below) == "cancelled"
    assert states(run) == {"first": "compensated", "sub": "cancelled", "last": "cancelled"}
    assert '{"sum": 42}' in mesh.tools.ledger.values()
    assert {one.run_id for one in listed} == {run.run_id, below.run_id}


async def stubs_runs(stubs: Stubs, caller: Any) -> Any:
    """Return the runs that the caller may see."""
    with acting(caller):
        return (await stubs.workflows.ListRuns(workflow_service_pb2.ListRunsRequest())).runs


@pytest.mark.promise("FLOW-07")
async def test_runs_belong_to_whoever_started_them(mesh: Mesh) -> None:
    """Others of the tenant see them as absent; administrators see all."""
    caller = author(mesh)
    other = mesh.colleague("workflow:read", "workflow:execute")
    async with mesh.process() as stubs:
        workflow = await created(stubs, caller, add("a", 1))
        run = await ended(stubs, caller, await started(stubs, caller, workflow))
        with pytest.raises(NotFound):
            await read(stubs, other, run.run_id)
        assert await stubs_runs(stubs, other) == []
        boss = mesh.colleague("workflow:read", "tenant:admin")
        assert (await read(stubs, boss, run.run_id)).created_by == caller.subject


@pytest.mark.promise("FLOW-07")
async def test_the_same_request_makes_one_run_and_one_version(mesh: Mesh) -> None:
    """And equal definitions no second version, and an old expected_version none at all."""
    caller = author(mesh)
    async with mesh.process() as stubs:
        first = await created(stubs, caller, add("a", 1))
        assert (await created(stubs, caller, add("a", 1))).version == 1
        assert (await created(stubs, caller, add("a", 2))).version == 2
        request = workflow_service_pb2.StartWorkflowRequest(
            workflow_id=first.workflow_id, version=1, request_id="once"
        )
        with acting(caller):
            one = await stubs.workflows.StartWorkflow(request)
            two = await stubs.workflows.StartWorkflow(request)
            assert one.run.run_id == two.run.run_id
            assert one.run.workflow_version == 1
            request.input.update({"x": 1})
            with pytest.raises(AlreadyExists):
                await stubs.workflows.StartWorkflow(request)
            with pytest.raises(Aborted):
                await stubs.workflows.CreateWorkflow(
                    workflow_service_pb2.CreateWorkflowRequest(
                        name="flow", definition=first.definition, expected_version=1
                    )
                )


@pytest.mark.promise("FLOW-02")
async def test_two_drivers_do_each_step_once(mesh: Mesh) -> None:
    """Promise FLOW-02: whoever picked a run last writes, the other one nothing."""
    caller = author(mesh)
    async with mesh.process(SWEEPING) as stubs, mesh.process(SWEEPING):
        workflow = await created(
            stubs,
            caller,
            *(add(f"s{number}", number) for number in range(6)),
            add("sum", *(f"${{steps.s{number}.output.sum}}" for number in range(6)),
                after=[f"s{number}" for number in range(6)]),
        )  # fmt: skip
        runs = await asyncio.gather(
            *(started(stubs, caller, workflow, number=number) for number in range(6))
        )
        over = await asyncio.gather(*(ended(stubs, caller, run, 25.0) for run in runs))
    assert {state(run) for run in over} == {"completed"}
    assert [output(run)["sum"] for run in over] == [15] * 6
    calls = [(task_id, step, index) for task_id, step, index, _ in mesh.tools.ran]
    assert len(calls) == len(set(calls)) == 6 * 7


@pytest.mark.promise("FLOW-02")
@pytest.mark.promise("FLOW-03")
@pytest.mark.timeout(170)
async def test_a_run_survives_kills_between_its_transitions(mesh: Mesh, tmp_path: Path) -> None:
    """Promise FLOW-02: killed at random before, in and behind its transactions, nothing is lost
    and nothing that ended is done again.
    """
    caller = author(mesh)
    points = ("run-read", "run-written", "run-committed")
    armed = ",".join(f"{point}=kill:0.2" for point in points)
    settings = {
        "MESHWRIGHT_FAILPOINTS": armed,
        "MESHWRIGHT_ORCHESTRATOR__TASK_LEASE_SECONDS": "1",
        "MESHWRIGHT_ORCHESTRATOR__LEASE_RENEW_SECONDS": "0.3",
        "MESHWRIGHT_ORCHESTRATOR__SWEEP_SECONDS": "0.2",
    }
    async with peers_on_a_port(mesh, tmp_path / "keys") as peers:
        async with mesh.process() as stubs:
            workflow = await created(stubs, caller, *_doomed_chain(4))
            later = workflow_service_pb2.StartWorkflowRequest(workflow_id=workflow.workflow_id)
            later.start_time.GetCurrentTime()
            later.start_time.seconds += 1
            with acting(caller):
                run = (await stubs.workflows.StartWorkflow(later)).run
        kills = 0
        while not run.HasField("end_time"):
            if kills == 3:
                settings["MESHWRIGHT_FAILPOINTS"] = ""
            try:
                async with orchestrator(mesh, tmp_path / "keys", peers, **settings) as running:
                    run = await _ended_or_killed(running, caller, run)
            except ProcessEnded:
                pass
            kills += 1
    assert kills > 1
    assert state(run) == "failed"
    assert set(states(run).values()) == {"compensated", "failed"}
    sums = sorted(json.loads(text)["sum"] for text in mesh.tools.ledger.values())
    assert sums == [1, 2, 3, 4, 1001, 1002, 1003, 1004]


def _doomed_chain(length: int) -> list[dict[str, Any]]:
    """Return steps that count, each undone by a call that adds 1 000, and one that fails."""
    steps = []
    for number in range(length):
        before = [f"s{number - 1}"] if number else []
        numbers = [f"${{steps.s{number - 1}.output.sum}}", 1] if number else [1]
        undo = tool("add", numbers=["${output.sum}", 1000])
        steps.append(add(f"s{number}", *numbers, after=before, compensation=undo))
    return [*steps, {"name": "end", "action": tool("nowhere"), "after": [f"s{length - 1}"]}]


async def _ended_or_killed(running: Running, caller: Any, run: Any) -> Any:
    """Return the run when it has ended, or as it was when the process was killed before."""
    exits = asyncio.ensure_future(running.process.wait())
    ends = asyncio.ensure_future(ended(running.stubs, caller, run, 30.0))
    await asyncio.wait({exits, ends}, return_when=asyncio.FIRST_COMPLETED)
    exits.cancel()
    if ends.done() and ends.exception() is None:
        return ends.result()
    ends.cancel()
    await asyncio.wait({ends})
    return run
