"""Tasks are begun again after failures that may pass (O5); what is journaled stays."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from meshwright_common.context import Principal
from meshwright_common.errors import InvalidArgument, ServiceError, Unavailable
from meshwright_common.ids import new_id
from meshwright_common.testing.waiting import eventually
from meshwright_orchestrator.domain.models import Limits, Task, TaskSpec, TaskState
from meshwright_orchestrator.domain.retries import Patience, Retries
from services.orchestrator.tests.mesh import FAST, Mesh, Stubs, kinds, request, run, text_of
from services.orchestrator.tests.peers import ProviderAway, Say
from services.orchestrator.tests.test_submit import ends, states, submit, watch

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]

ONCE = FAST.model_copy(update={"task_retries": 1})
NONE = FAST.model_copy(update={"task_retries": 0, "max_attempts": 1})
IMPATIENT = NONE.model_copy(update={"away_seconds": 0, "awaited_away_seconds": 0})
CALL = Say(calls=[("add", '{"a": 1}')])
AWAY = Unavailable("the service cannot be reached")


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


async def test_task_waits_for_a_service_of_ours_without_a_worker_and_without_counting(
    mesh: Mesh,
) -> None:
    mesh.models.script = [CALL, Say(error=AWAY)]
    section = NONE.model_copy(update={"worker_slots": 1, "noop_agent": True})
    async with mesh.process(section) as stubs:
        task_id = (await submit(stubs, mesh, agent="chat")).task_id

        async def was_tried_often() -> bool:
            return [state for state, _ in await states(mesh, task_id)].count("queued") > 3

        await eventually(was_tried_often)
        other = (await submit(stubs, mesh)).task_id
        await watch(stubs, mesh, other)
        mesh.models.script = [CALL, Say(["Three."])]
        events = await watch(stubs, mesh, task_id)
    assert text_of(events) == "Three."
    assert len(mesh.tools.ran) == 1
    assert await ends(mesh) == {task_id: 1, other: 1}


async def test_patience_begins_anew_with_each_step(mesh: Mesh) -> None:
    async with _away_once_journaled(mesh) as (stubs, task_id):
        away = await _away_seconds(mesh, task_id)
        mesh.models.script = [CALL, CALL, Say(["Three."])]
        await watch(stubs, mesh, task_id)
    assert away is not None
    assert await _away_seconds(mesh, task_id) is None


async def test_patience_has_an_end(mesh: Mesh) -> None:
    mesh.models.script = [Say(error=AWAY)]
    async with mesh.process(IMPATIENT) as stubs:
        task_id = (await submit(stubs, mesh, agent="chat")).task_id
        submitted = await watch(stubs, mesh, task_id)
        awaited = await run(stubs, mesh.caller, request())
    for events in (submitted, awaited):
        assert (events[-1].error.reason, events[-1].error.retryable) == ("UNAVAILABLE", True)


async def test_task_waits_for_tools_that_are_away_and_then_its_model_is_told(mesh: Mesh) -> None:
    mesh.models.script = [CALL, Say(["Three."])]
    mesh.tools.error = AWAY
    section = NONE.model_copy(update={"away_seconds": 1})
    async with mesh.process(section) as stubs:
        task_id = (await submit(stubs, mesh, agent="chat")).task_id
        events = await watch(stubs, mesh, task_id)
    results = [event.tool_result for event in events if event.HasField("tool_result")]
    assert [result.is_error for result in results] == [True]
    assert "queued" in [state for state, _ in (await states(mesh, task_id))[1:]]


async def test_model_of_whoever_waits_is_told_of_tools_that_are_away_at_once(mesh: Mesh) -> None:
    mesh.models.script = [CALL, Say(["Three."])]
    mesh.tools.error = AWAY
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request())
    assert text_of(events) == "Three."
    assert {event.attempt for event in events} == {1}


@pytest.mark.parametrize("shown", [[], ["Two", " and"]], ids=["nothing shown", "text shown"])
async def test_answer_is_begun_again_for_whoever_waits_when_the_router_died(
    mesh: Mesh, shown: list[str]
) -> None:
    mesh.models.script = [CALL, Say(shown, error=AWAY)]

    async def back(piece: int) -> None:
        if len(mesh.models.requests) == 4:
            mesh.models.script = [CALL, Say(["Three."])]

    mesh.models.gate = back
    async with mesh.process(NONE) as stubs:
        events = await run(stubs, mesh.caller, request())
    assert kinds(events)[-1] == "final"
    assert text_of(events) == "Three."
    assert events[-1].final.answer == "Three."
    # A new attempt goes on after the journaled step; its first event withdraws the text.
    assert len(mesh.tools.ran) == 1
    assert [one.attribution.attempt for one in mesh.models.requests] == [1, 1, 2, 3, 4]
    assert await ends(mesh) == {events[0].task_id: 1}


@asynccontextmanager
async def _away_once_journaled(mesh: Mesh) -> AsyncIterator[tuple[Stubs, str]]:
    mesh.models.script = [CALL, Say(error=AWAY)]
    async with mesh.process(NONE) as stubs:
        task_id = (await submit(stubs, mesh, agent="chat")).task_id

        async def waits() -> bool:
            return await _away_seconds(mesh, task_id) is not None

        await eventually(waits)
        yield stubs, task_id


async def _away_seconds(mesh: Mesh, task_id: str) -> float | None:
    (row,) = await mesh.rows(
        "SELECT CASE WHEN away_step = step_count THEN 0.0 END AS away FROM orchestrator.tasks"
        " WHERE tenant_id = $1 AND task_id = $2",
        task_id,
    )
    away: float | None = row["away"]
    return away


@pytest.mark.parametrize(
    ("error", "attempt", "remaining", "pause"),
    [
        pytest.param(ProviderAway("away"), 1, 300, 1.0, id="first"),
        pytest.param(ProviderAway("away"), 3, 300, 4.0, id="third"),
        pytest.param(ProviderAway("away"), 4, 300, None, id="no fourth"),
        pytest.param(ProviderAway("away", retry_after_seconds=9), 1, 300, 9.0, id="as asked"),
        pytest.param(ProviderAway("away", retry_after_seconds=61), 1, 300, None, id="too long"),
        pytest.param(ProviderAway("away"), 3, 3, None, id="no time left"),
        pytest.param(InvalidArgument("bad"), 1, 300, None, id="will not pass"),
    ],
)
async def test_pause_before_the_next_attempt(
    error: ServiceError, attempt: int, remaining: float, pause: float | None
) -> None:
    task = _task(attempt, remaining)
    assert RETRIES.patience_left(task, error) is None
    assert RETRIES.pause_after(task, error) == pause


@pytest.mark.parametrize(
    ("away", "least", "most"),
    [
        pytest.param(0, 0.0, 1.0, id="at first"),
        pytest.param(5, 0.0, 5.0, id="longer as it lasts"),
        pytest.param(60, 0.0, 8.0, id="never longer than this"),
    ],
)
async def test_pause_while_a_service_of_ours_is_away(
    away: float, least: float, most: float
) -> None:
    pauses = [RETRIES.patience_left(_task(9, 300, away), AWAY) for _ in range(200)]
    assert all(pause is not None and least <= pause <= most for pause in pauses)
    # Full jitter: spread over the whole of it.
    assert max(pause or 0 for pause in pauses) > 0.8 * most
    assert min(pause or 0 for pause in pauses) < 0.2 * most
    assert RETRIES.patience_left(_task(9, 300, 120), AWAY) is None


async def test_whoever_waits_does_not_wait_for_a_store_that_is_away() -> None:
    error = LimitsAway("limits cannot be counted")
    task = _task(1, 300)
    assert RETRIES.patience_left(task, error) is not None
    assert RETRIES.patience_left(replace(task, detached=False), error) is None
    assert RETRIES.patience_left(replace(task, detached=False), AWAY) is not None


class LimitsAway(Unavailable):
    """As the router says it when its counters are away."""

    reason = "LIMITS_UNAVAILABLE"


RETRIES = Retries(
    3,
    lambda number: 2.0 ** (number - 1),
    patient=Patience(120, first_seconds=1.0, longest_seconds=8.0),
    awaited=Patience(30, first_seconds=0.2, longest_seconds=2.0),
)


def _task(attempt: int, remaining: float, away: float = 0.0) -> Task:
    now = datetime.now(UTC)
    return Task(
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
        away_seconds=away,
    )
