"""Tasks whose worker was just killed are cancelled at once, and truthfully (R-07)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from meshwright.orchestrator.v1 import agent_service_pb2, task_pb2
from meshwright_common.errors import Unavailable
from meshwright_common.testing.waiting import eventually
from services.orchestrator.tests.mesh import SWEEPING, Mesh, Stubs, acting
from services.orchestrator.tests.processes import orchestrator, peers_on_a_port
from services.orchestrator.tests.test_submit import submit

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]

TASKS = 500
AT_ONCE = 50
MANY = {
    "MESHWRIGHT_ORCHESTRATOR__WORKER_SLOTS": str(TASKS),
    "MESHWRIGHT_ORCHESTRATOR__DISPATCH_WINDOW": str(TASKS),
}


@pytest_asyncio.fixture
async def peers(mesh: Mesh, tmp_path: Path) -> AsyncIterator[str]:
    """The address of the mesh's peers."""
    async with peers_on_a_port(mesh, tmp_path / "keys") as address:
        yield address


@pytest.mark.promise("TASK-03")
async def test_five_hundred_cancels_right_after_the_worker_died(
    mesh: Mesh, peers: str, tmp_path: Path
) -> None:
    held = asyncio.Event()

    async def hold(_: int) -> None:
        await held.wait()

    mesh.models.gate = hold
    async with mesh.process(SWEEPING.model_copy(update={"worker_slots": 0})) as stubs:
        async with orchestrator(mesh, tmp_path / "keys", peers, **MANY) as worker:
            accepted = await submitted(worker.stubs, mesh)
            await eventually(lambda: len(mesh.models.requests) == TASKS, timeout_seconds=60)
            await worker.kill()
        states = await all_cancelled(stubs, mesh, accepted)
        asked = len(mesh.models.requests)
        rows = await mesh.rows(
            "SELECT count(*) AS open FROM orchestrator.tasks"
            " WHERE tenant_id = $1 AND state <> 'cancelled'"
        )
        # Two leases of the dead one, and ten sweeps: whoever would take a task over had his chance.
        await asyncio.sleep(4)
        assert rows[0]["open"] == 0
        assert len(mesh.models.requests) == asked
    held.set()
    assert states == {task_pb2.TASK_STATE_CANCELLED}
    ends = [data["task_id"] for data in await mesh.events("agent.task.cancelled")]
    assert sorted(ends) == sorted(accepted)


async def submitted(stubs: Stubs, mesh: Mesh) -> list[str]:
    """Submit the tasks; return their ids."""
    found: list[str] = []
    for _ in range(TASKS // AT_ONCE):
        tasks = await asyncio.gather(*(submit(stubs, mesh, agent="chat") for _ in range(AT_ONCE)))
        found += [task.task_id for task in tasks]
    return found


async def cancelled(stubs: Stubs, task_id: str) -> int:
    """Cancel a task, again while a busy database says that it cannot; return its state."""
    asked = agent_service_pb2.CancelTaskRequest(task_id=task_id)
    while True:
        with suppress(Unavailable):
            state: int = (await stubs.agents.CancelTask(asked)).task.state
            return state
        await asyncio.sleep(0.1)


async def all_cancelled(stubs: Stubs, mesh: Mesh, ids: list[str]) -> set[int]:
    """Cancel all of them, many at a time; return the states in the answers."""
    states: set[int] = set()
    waiting = iter(ids)

    async def cancel() -> None:
        for task_id in waiting:
            states.add(await cancelled(stubs, task_id))

    with acting(mesh.caller):
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(cancel())
    return states
