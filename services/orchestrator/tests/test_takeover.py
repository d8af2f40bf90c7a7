"""Tasks whose process died, stood still, or gave them up."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from meshwright.orchestrator.v1 import agent_service_pb2
from meshwright_common.rpc.stream import open_stream
from meshwright_common.testing.waiting import eventually
from services.orchestrator.tests.mesh import (
    SWEEPING,
    Mesh,
    acting,
    kinds,
    request,
    run,
    text_of,
)
from services.orchestrator.tests.peers import Say, passage
from services.orchestrator.tests.processes import orchestrator, peers_on_a_port

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]

TOOL_THEN_ANSWER = [
    Say(["Let me see."], [("slow", '{"numbers": [1, 2]}')]),
    Say(["It ", "is ", "3 [1]."]),
]


@pytest_asyncio.fixture
async def peers(mesh: Mesh, tmp_path: Path) -> AsyncIterator[str]:
    """The address of the peers; passages, a slow tool, an answer in three pieces."""
    mesh.documents.passages = [passage(1, "One and two is three.")]
    mesh.models.script = TOOL_THEN_ANSWER
    async with peers_on_a_port(mesh, tmp_path / "keys") as address:
        yield address


async def begin(stubs: object, mesh: Mesh, *, until: str) -> str:
    """Start the task r1 with nobody left to follow it once it did `until`; return its id."""
    asked = request(agent="rag", request_id="r1")
    with acting(mesh.caller):
        async with open_stream(stubs.agents.ExecuteTask(asked)) as responses:  # type: ignore[attr-defined]
            async for response in responses:
                if response.event.WhichOneof("event") == until:
                    return str(response.event.task_id)
    raise AssertionError(f"the stream ended before {until}")


async def steps_of(mesh: Mesh) -> list[tuple[int, int, str]]:
    """Return step, attempt and kind of each journal entry."""
    rows = await mesh.rows(
        "SELECT step, attempt, kind FROM orchestrator.steps WHERE tenant_id = $1 ORDER BY step"
    )
    return [tuple(row) for row in rows]


async def until_ended(mesh: Mesh) -> None:
    """Wait until the one task has its final state, as its event tells."""

    async def told() -> bool:
        return bool(await mesh.events("agent.task.completed"))

    await eventually(told)


async def until_lease_expired(mesh: Mesh) -> None:
    """Wait until the one task belongs to nobody."""

    async def expired() -> bool:
        (row,) = await mesh.rows(
            "SELECT lease_expires_at < clock_timestamp() AS expired FROM orchestrator.tasks"
            " WHERE tenant_id = $1"
        )
        return bool(row["expired"])

    await eventually(expired)


async def test_killed_process_loses_no_task_and_repeats_no_journaled_step(
    mesh: Mesh, peers: str, tmp_path: Path
) -> None:
    """R-01, R-02: the second attempt tells everything again and does only what was not done."""
    async with orchestrator(mesh, tmp_path / "keys", peers) as first:
        task_id = await begin(first.stubs, mesh, until="tool_call")
        await asyncio.wait_for(mesh.tools.reached.wait(), 20)
        await first.kill()
    mesh.tools.gate.set()
    await until_lease_expired(mesh)
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request(agent="rag", request_id="r1"))
    assert events[-1].final.answer == text_of(events) == "Let me see.\n\nIt is 3 [1]."
    assert kinds(events) == [
        *("started", "recall", "checkpoint", "chunk", "checkpoint"),
        *("tool_call", "tool_result", "checkpoint", "chunk", "checkpoint", "final"),
    ]
    assert {event.attempt for event in events} == {2}
    assert events[0].started.resumed_steps == 2
    assert [event.sequence for event in events] == sorted({event.sequence for event in events})
    assert len(mesh.documents.requests) == 1
    made = [(call.attribution.step, call.attribution.attempt) for call in mesh.models.requests]
    assert made == [(2, 1), (4, 2)]
    # The tool was cut off in the first attempt: both calls carry the same key.
    assert {(ran[0], ran[1], ran[2]) for ran in mesh.tools.ran} == {(task_id, 3, 0)}
    assert await steps_of(mesh) == [
        *((1, 1, "recall"), (2, 1, "model")),
        *((3, 2, "tools"), (4, 2, "model")),
    ]
    assert len(await mesh.events("agent.task.completed")) == 1


async def test_lost_task_that_nobody_follows_comes_to_its_end(
    mesh: Mesh, peers: str, tmp_path: Path
) -> None:
    """R-01: the sweep of any other process takes it over."""
    async with orchestrator(mesh, tmp_path / "keys", peers) as first:
        await begin(first.stubs, mesh, until="tool_call")
        await first.kill()
    mesh.tools.gate.set()
    async with mesh.process(SWEEPING):
        await until_ended(mesh)
    assert mesh.models.callers[-1] == mesh.caller


async def test_process_that_stood_still_writes_nothing_and_calls_nothing(
    mesh: Mesh, peers: str, tmp_path: Path
) -> None:
    """R-05: stopped in its first model call, it goes on after another has finished the task."""
    released = asyncio.Event()
    held = asyncio.Event()

    async def hold_the_first_call(_: int) -> None:
        if len(mesh.models.requests) == 1:
            held.set()
            await released.wait()

    mesh.models.gate = hold_the_first_call
    mesh.tools.gate.set()
    async with orchestrator(mesh, tmp_path / "keys", peers) as zombie:
        task_id = await begin(zombie.stubs, mesh, until="recall")
        await asyncio.wait_for(held.wait(), 20)
        zombie.stand_still()
        async with mesh.process() as stubs:
            events = await run(stubs, mesh.caller, request(agent="rag", request_id="r1"))
        assert events[-1].final.answer
        released.set()
        zombie.go_on()
        told = await run(zombie.stubs, mesh.caller, request(agent="rag", request_id="r1"))
        with acting(mesh.caller):
            got = await zombie.stubs.agents.GetTask(
                agent_service_pb2.GetTaskRequest(task_id=task_id)
            )
    assert told[-1].final == events[-1].final
    assert got.task.attempt == 2
    assert [attempt for _, attempt, _ in await steps_of(mesh)] == [2, 2, 2, 2]
    assert len(mesh.tools.ran) == 1
    assert len(await mesh.events("agent.task.completed")) == 1


async def test_reader_sees_one_stream_through_the_death_of_the_worker(
    mesh: Mesh, peers: str, tmp_path: Path
) -> None:
    """Followed through another process: what was journaled is told once, nothing is withdrawn."""
    async with orchestrator(mesh, tmp_path / "keys", peers) as first, mesh.process() as stubs:
        await begin(first.stubs, mesh, until="tool_call")
        await asyncio.wait_for(mesh.tools.reached.wait(), 20)
        reading = asyncio.ensure_future(
            run(stubs, mesh.caller, request(agent="rag", request_id="r1"))
        )
        await first.kill()
        mesh.tools.gate.set()
        events = await asyncio.wait_for(reading, 20)
    assert text_of(events) == events[-1].final.answer
    assert [event.attempt for event in events if event.HasField("started")] in ([2], [1, 2])
    assert sum(event.HasField("recall") for event in events) == 1
    assert sum(event.HasField("tool_result") for event in events) == 1


async def test_drained_process_hands_its_tasks_over_at_once(mesh: Mesh) -> None:
    """R-18: the lease is given back, so nobody waits for it to run out."""
    mesh.models.script = TOOL_THEN_ANSWER
    long_lease = SWEEPING.model_copy(update={"task_lease_seconds": 60.0})
    async with mesh.process(long_lease) as stubs:
        await begin(stubs, mesh, until="tool_call")
    mesh.tools.gate.set()
    async with mesh.process(long_lease):
        await until_ended(mesh)
    assert [attempt for _, attempt, _ in await steps_of(mesh)][-1] == 2


async def test_task_that_keeps_killing_its_process_fails(mesh: Mesh) -> None:
    """It would go round for ever, or until its deadline a day later."""
    mesh.models.script = TOOL_THEN_ANSWER
    section = SWEEPING.model_copy(update={"max_attempts": 2})
    for _ in range(2):
        mesh.tools.reached.clear()
        async with mesh.process(section) as stubs:
            reading = asyncio.ensure_future(
                run(stubs, mesh.caller, request(agent="rag", request_id="r1"))
            )
            await asyncio.wait_for(mesh.tools.reached.wait(), 20)
            reading.cancel()
            await asyncio.wait({reading})
    async with mesh.process(section) as stubs:
        events = await run(stubs, mesh.caller, request(agent="rag", request_id="r1"))
    assert (events[-1].error.reason, events[-1].error.retryable) == ("UNAVAILABLE", True)
    assert events[-1].attempt == 3
    with acting(mesh.caller):
        assert len(await mesh.events("agent.task.failed")) == 1


async def test_lost_task_past_its_deadline_expires_without_another_call(mesh: Mesh) -> None:
    mesh.models.script = TOOL_THEN_ANSWER
    async with mesh.process() as stubs:
        await begin(stubs, mesh, until="tool_call")
    await mesh.rows(
        "UPDATE orchestrator.tasks SET deadline_at = clock_timestamp() WHERE tenant_id = $1"
    )
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request(agent="rag", request_id="r1"))
    assert events[-1].error.reason == "TASK_EXPIRED"
    assert len(mesh.models.requests) == 1


async def test_task_of_an_unknown_engine_is_left_to_those_who_know_it(mesh: Mesh) -> None:
    """R-06: pinned to the version it began with; ended by anybody once its time is over."""
    mesh.models.script = TOOL_THEN_ANSWER
    async with mesh.process() as stubs:
        await begin(stubs, mesh, until="tool_call")
    await mesh.rows("UPDATE orchestrator.tasks SET engine_version = 999 WHERE tenant_id = $1")
    async with mesh.process(SWEEPING) as stubs:
        with acting(mesh.caller), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await run(stubs, mesh.caller, request(agent="rag", request_id="r1"))
        await mesh.rows(
            "UPDATE orchestrator.tasks SET deadline_at = clock_timestamp() WHERE tenant_id = $1"
        )
        events = await run(stubs, mesh.caller, request(agent="rag", request_id="r1"))
    assert events[-1].error.reason == "TASK_EXPIRED"
    assert len(mesh.models.requests) == 1
