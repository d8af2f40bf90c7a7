"""Cancelling at several instants, from here and from another process (R-07)."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from meshwright.orchestrator.v1 import agent_service_pb2, task_pb2
from meshwright_common.rpc.stream import open_stream
from meshwright_common.testing.waiting import eventually
from services.orchestrator.tests.mesh import Mesh, acting, request, run
from services.orchestrator.tests.peers import Documents, Say, passage

pytestmark = pytest.mark.asyncio

STOP_SECONDS = 10.0


class HeldDocuments(Documents):
    """A search that does not answer until it is cancelled."""

    ended = 0

    async def Search(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.ended += 1


def following(stubs: Any, mesh: Mesh, request_id: str = "r1") -> "asyncio.Task[Sequence[Any]]":
    """Read the task to its end, beside the test."""
    asked = request(agent="rag", request_id=request_id)
    return asyncio.ensure_future(run(stubs, mesh.caller, asked))


async def cancel(stubs: Any, mesh: Mesh) -> task_pb2.Task:
    """Cancel the one task."""
    (row,) = await mesh.rows("SELECT task_id FROM orchestrator.tasks WHERE tenant_id = $1")
    with acting(mesh.caller):
        answer = await stubs.agents.CancelTask(
            agent_service_pb2.CancelTaskRequest(task_id=row["task_id"])
        )
    task: task_pb2.Task = answer.task
    return task


async def check_cancelled(mesh: Mesh, events: Sequence[Any], task: task_pb2.Task) -> None:
    """One final state, one event of it, and the reader was told."""
    assert task.state == task_pb2.TASK_STATE_CANCELLED
    assert events[-1].error.reason == task.error.reason == "TASK_CANCELLED"
    assert not task.error.retryable
    assert [told["state"] for told in await mesh.events("agent.task.cancelled")] == ["cancelled"]
    assert await mesh.events("agent.task.completed", "agent.task.failed") == []
    acts = [told["action"] for told in await mesh.events("audit.recorded")]
    assert acts == ["task.accepted", "task.cancelled"]


async def test_cancelled_while_it_searches(mesh: Mesh) -> None:
    documents = mesh.documents = HeldDocuments()
    async with mesh.process() as stubs:
        reading = following(stubs, mesh)
        await eventually(lambda: bool(documents.requests))
        task = await cancel(stubs, mesh)
        assert documents.ended == 1
        events = await reading
    await check_cancelled(mesh, events, task)
    assert mesh.models.requests == []


async def test_cancelled_while_the_model_speaks(mesh: Mesh) -> None:
    mesh.models.script = [Say(["One", "two"])]

    async def hold_the_second_piece(index: int) -> None:
        if index == 1:
            await asyncio.get_running_loop().create_future()

    mesh.models.gate = hold_the_second_piece
    async with mesh.process() as stubs:
        reading = following(stubs, mesh)
        await eventually(lambda: mesh.models.running == 1)
        began = time.monotonic()
        task = await cancel(stubs, mesh)
        assert mesh.models.running == 0
        assert time.monotonic() - began < STOP_SECONDS
        events = await reading
    await check_cancelled(mesh, events, task)


async def test_cancelled_while_a_tool_runs(mesh: Mesh) -> None:
    mesh.models.script = [Say([], [("slow", "{}")])]
    async with mesh.process() as stubs:
        reading = following(stubs, mesh)
        await mesh.tools.reached.wait()
        task = await cancel(stubs, mesh)
        assert mesh.tools.stopped == 1
        events = await reading
    await check_cancelled(mesh, events, task)
    assert len(mesh.models.requests) == 1


async def test_cancelled_in_another_process_stops_here_when_the_lease_is_not_renewed(
    mesh: Mesh,
) -> None:
    """The other process has fenced the attempt: whatever this one would write is refused."""
    mesh.documents.passages = [passage(1, "One.")]
    mesh.models.script = [Say([], [("slow", "{}")]), Say(["Too late."])]
    async with mesh.process() as here, mesh.process() as there:
        reading = following(here, mesh)
        await mesh.tools.reached.wait()
        task = await cancel(there, mesh)
        await eventually(lambda: mesh.tools.stopped == 1)
        events = await reading
    await check_cancelled(mesh, events, task)
    assert len(mesh.models.requests) == 1


async def test_final_task_is_returned_as_it_is(mesh: Mesh) -> None:
    async with mesh.process() as stubs:
        await following(stubs, mesh)
        task = await cancel(stubs, mesh)
        again = await cancel(stubs, mesh)
    assert task.state == task_pb2.TASK_STATE_COMPLETED
    assert task == again
    assert await mesh.events("agent.task.cancelled") == []


async def test_cancelling_twice_is_the_same_as_once(mesh: Mesh) -> None:
    mesh.models.script = [Say([], [("slow", "{}")])]
    async with mesh.process() as stubs:
        reading = following(stubs, mesh)
        await mesh.tools.reached.wait()
        first = await cancel(stubs, mesh)
        second = await cancel(stubs, mesh)
        events = await reading
    assert first == second
    await check_cancelled(mesh, events, second)


async def test_reader_that_leaves_does_not_end_the_task(mesh: Mesh) -> None:
    mesh.models.script = [Say([], [("slow", '{"numbers": [1]}')]), Say(["Done."])]
    asked = request(agent="rag", request_id="r1")
    async with mesh.process() as stubs:
        with acting(mesh.caller):
            async with open_stream(stubs.agents.ExecuteTask(asked)) as responses:
                async for response in responses:
                    if response.event.HasField("tool_call"):
                        break
        await mesh.tools.reached.wait()
        mesh.tools.gate.set()
        events = await following(stubs, mesh)
    assert events[-1].final.answer == "Done."
    assert mesh.tools.stopped == 0
