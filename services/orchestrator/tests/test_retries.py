"""Submitted tasks are begun again after failures that may pass (O5); what is journaled stays."""

from datetime import UTC, datetime

import pytest

from meshwright_common.context import Principal
from meshwright_common.errors import InvalidArgument, ServiceError, Unavailable
from meshwright_common.ids import new_id
from meshwright_common.testing.waiting import eventually
from meshwright_orchestrator.domain.models import Limits, Task, TaskSpec, TaskState
from meshwright_orchestrator.domain.retries import Retries
from services.orchestrator.tests.mesh import FAST, Mesh, kinds, request, run, text_of
from services.orchestrator.tests.peers import ProviderAway, Say
from services.orchestrator.tests.test_submit import ends, states, submit, watch

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]

ONCE = FAST.model_copy(update={"task_retries": 1})
CALL = Say(calls=[("add", '{"a": 1}')])


async def test_task_whose_model_was_away_is_done_when_it_is_back(mesh: Mesh) -> None:
    mesh.models.script = [CALL, Say(error=ProviderAway())]
    async with mesh.process() as stubs:
        task_id = (await submit(stubs, mesh, agent="chat")).task_id

        async def is_postponed() -> bool:
            return await states(mesh, task_id) == [("queued", 0), ("running", 1), ("queued", 1)]

        await eventually(is_postponed)
        mesh.models.script = [CALL, Say(["Three."])]
        events = await watch(stubs, mesh, task_id)
    assert kinds(events)[-1] == "final"
    assert text_of(events) == "Three."
    assert len(mesh.tools.ran) == 1
    assert (await states(mesh, task_id))[3:] == [("running", 2), ("completed", 2)]
    assert await ends(mesh) == {task_id: 1}


async def test_task_fails_with_its_reason_after_the_last_retry(mesh: Mesh) -> None:
    mesh.models.script = [Say(error=ProviderAway())]
    async with mesh.process(ONCE) as stubs:
        task_id = (await submit(stubs, mesh, agent="chat")).task_id
        events = await watch(stubs, mesh, task_id)
    assert events[-1].error.reason == "PROVIDER_UNAVAILABLE"
    assert len(mesh.models.requests) == 2
    assert [state for state, _ in await states(mesh, task_id)] == [
        *("queued", "running", "queued", "running", "failed")
    ]


async def test_whoever_waits_for_the_task_is_told_at_once(mesh: Mesh) -> None:
    mesh.models.script = [Say(error=ProviderAway())]
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request())
    assert events[-1].error.reason == "PROVIDER_UNAVAILABLE"
    assert len(mesh.models.requests) == 1


@pytest.mark.parametrize(
    ("error", "attempt", "remaining", "pause"),
    [
        pytest.param(Unavailable("away"), 1, 300, 1.0, id="first"),
        pytest.param(Unavailable("away"), 3, 300, 4.0, id="third"),
        pytest.param(Unavailable("away"), 4, 300, None, id="no fourth"),
        pytest.param(Unavailable("away", retry_after_seconds=9), 1, 300, 9.0, id="as asked"),
        pytest.param(Unavailable("away", retry_after_seconds=61), 1, 300, None, id="too long"),
        pytest.param(Unavailable("away"), 3, 3, None, id="no time left"),
        pytest.param(InvalidArgument("bad"), 1, 300, None, id="will not pass"),
    ],
)
async def test_pause_before_the_next_attempt(
    error: ServiceError, attempt: int, remaining: float, pause: float | None
) -> None:
    retries = Retries(3, lambda number: 2.0 ** (number - 1))
    now = datetime.now(UTC)
    task = Task(
        task_id=new_id(),
        owner=Principal(new_id(), new_id(), "user", frozenset()),
        correlation_id=new_id(),
        spec=TaskSpec("chat", ()),
        limits=Limits(),
        engine_version=3,
        state=TaskState.RUNNING,
        attempt=attempt,
        lease_epoch=1,
        created_at=now,
        updated_at=now,
        remaining_seconds=remaining,
        detached=True,
    )
    assert retries.pause_after(task, error) == pause
