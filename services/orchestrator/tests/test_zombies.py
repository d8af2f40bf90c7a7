"""A process that stood still for longer than its lease writes nothing and calls nobody (R-05).

It stops itself at each of its fail points, another process ends the task, and it goes on.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from meshwright.orchestrator.v1 import agent_service_pb2
from meshwright_common.testing.waiting import eventually
from services.orchestrator.tests.mesh import SWEEPING, Mesh, acting
from services.orchestrator.tests.peers import Say
from services.orchestrator.tests.processes import Running, orchestrator, peers_on_a_port
from services.orchestrator.tests.test_submit import submit, watch

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]

LEASE_SECONDS = 1.0
"""Of what the zombie has claimed: it stands still for three of them."""
LOOKS = 6
"""How often is looked, over half a second, whether the zombie did something after all."""
_ROWS = """
SELECT (SELECT count(*) FROM orchestrator.steps WHERE tenant_id = $1) AS steps,
       (SELECT count(*) FROM orchestrator.transitions WHERE tenant_id = $1) AS transitions,
       (SELECT count(*) FROM events.outbox WHERE tenant_id = $1) AS events,
       (SELECT max(lease_epoch) FROM orchestrator.tasks WHERE tenant_id = $1) AS epoch,
       (SELECT max(updated_at) FROM orchestrator.tasks WHERE tenant_id = $1) AS changed
"""


@pytest_asyncio.fixture
async def peers(mesh: Mesh, tmp_path: Path) -> AsyncIterator[str]:
    """The address of the mesh's peers."""
    async with peers_on_a_port(mesh, tmp_path / "keys") as address:
        yield address


@pytest.mark.promise("TASK-02")
@pytest.mark.parametrize(
    "point", ["task-claimed", "model-answered", "step-journaled", "tool-answered", "task-ended"]
)
async def test_zombie_does_nothing_wherever_it_stood(
    mesh: Mesh, peers: str, tmp_path: Path, point: str
) -> None:
    mesh.models.script = [Say(calls=[("add", '{"a": 1}')]), Say(["Three."])]
    mesh.tools.gate.set()
    armed = {
        "MESHWRIGHT_FAILPOINTS": f"{point}=stop",
        "MESHWRIGHT_ORCHESTRATOR__TASK_LEASE_SECONDS": str(LEASE_SECONDS),
        "MESHWRIGHT_ORCHESTRATOR__LEASE_RENEW_SECONDS": "0.25",
    }
    async with orchestrator(mesh, tmp_path / "keys", peers, **armed) as zombie:
        task_id = (await submit(zombie.stubs, mesh, agent="chat")).task_id
        await eventually(lambda: zombie.stands_still, timeout_seconds=20)
        stood_still_at = time.monotonic()
        async with mesh.process(SWEEPING) as stubs:
            told = await watch(stubs, mesh, task_id)
            assert told[-1].final.answer == "Three."
            assert told[-1].attempt == (1 if point == "task-ended" else 2)
            await asyncio.sleep(stood_still_at + 3 * LEASE_SECONDS - time.monotonic())
            before, called = await mesh.rows(_ROWS), calls(mesh)
            await go_on_to_the_end(zombie)
            with acting(mesh.caller):
                await zombie.stubs.agents.GetTask(agent_service_pb2.GetTaskRequest(task_id=task_id))
            for _ in range(LOOKS):
                assert await mesh.rows(_ROWS) == before
                assert calls(mesh) == called
                await asyncio.sleep(0.1)
    assert len(mesh.tools.ran) == 1


def calls(mesh: Mesh) -> tuple[int, int, int]:
    """Return how often the peers were asked for something."""
    return len(mesh.models.requests), mesh.tools.asked, len(mesh.tools.ran)


async def go_on_to_the_end(zombie: Running) -> None:
    """Let it go on, again at each point where it stops itself anew."""
    zombie.go_on()
    quiet = 0
    while quiet < LOOKS:
        await asyncio.sleep(0.05)
        quiet += 1
        if zombie.stands_still:
            zombie.go_on()
            quiet = 0
