"""Schedules: one run for each firing, under the rights of its user at that moment (O9)."""

import asyncio
import signal
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from meshwright.orchestrator.v1 import (
    schedule_pb2,
    task_pb2,
    workflow_pb2,
    workflow_service_pb2,
)
from meshwright_common.context import Principal
from meshwright_common.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ServiceError,
)
from meshwright_common.ids import new_id
from meshwright_common.testing.waiting import eventually
from services.orchestrator.tests.clockwork import (
    create,
    is_settled,
    listed,
    pause,
    runs,
    turn_back,
)
from services.orchestrator.tests.mesh import FAST, Mesh, acting
from services.orchestrator.tests.processes import orchestrator, peers_on_a_port

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]

NOOP = FAST.model_copy(update={"noop_agent": True})
NO_WORKER = NOOP.model_copy(update={"worker_slots": 0})
RIGHTS = frozenset({"workflow:execute", "workflow:read"})
LATEST = schedule_pb2.MISSED_RUN_POLICY_LATEST
SKIP = schedule_pb2.MISSED_RUN_POLICY_SKIP
ALL = schedule_pb2.MISSED_RUN_POLICY_ALL


@pytest.fixture
def planner(mesh: Mesh) -> Principal:
    """A user whom the directory knows."""
    planner = mesh.colleague(*RIGHTS)
    mesh.directory.users[planner.subject] = planner
    return planner


async def test_schedule_is_made_listed_and_removed(mesh: Mesh, planner: Principal) -> None:
    async with mesh.process(NO_WORKER) as stubs:
        made = await create(
            stubs, planner, cron="30 2 * * mon-fri", time_zone="Europe/Berlin", request_id="r1"
        )
        again = await create(
            stubs, planner, cron="30 2 * * mon-fri", time_zone="Europe/Berlin", request_id="r1"
        )
        with pytest.raises(AlreadyExists) as taken:
            await create(stubs, planner)
        with pytest.raises(ServiceError, match="another request"):
            await create(stubs, planner, name="other", request_id="r1")
        stranger = mesh.colleague(*RIGHTS)
        mesh.directory.users[stranger.subject] = stranger
        assert await listed(stubs, stranger) == []
        with acting(stranger):
            await stubs.workflows.DeleteSchedule(
                workflow_service_pb2.DeleteScheduleRequest(schedule_id=made.schedule_id)
            )
        with pytest.raises(NotFound) as hidden:
            await pause(stubs, stranger, made.schedule_id, paused=True)
        assert [one.schedule_id for one in await listed(stubs, planner)] == [made.schedule_id]
        admin = mesh.colleague(*RIGHTS, "tenant:admin")
        assert await listed(stubs, admin) == [made]
        with acting(planner):
            await stubs.workflows.DeleteSchedule(
                workflow_service_pb2.DeleteScheduleRequest(schedule_id=made.schedule_id)
            )
        assert await listed(stubs, planner) == []
    assert again == made
    assert made.created_by == planner.subject
    assert made.next_run_time.ToDatetime(tzinfo=UTC) > datetime.now(UTC)
    assert (made.cron, made.time_zone) == ("30 2 * * mon-fri", "Europe/Berlin")
    assert taken.value.reason == "ALREADY_EXISTS"
    assert hidden.value.reason == "SCHEDULE_NOT_FOUND"


def wrong() -> list[tuple[str, dict[str, Any]]]:
    """Return fields that are refused, and which one is named; times count from now."""
    now = datetime.now(UTC)
    return [
        ("schedule.name", {"name": ""}),
        ("schedule.cron", {"cron": "61 * * * *"}),
        ("schedule.time_zone", {"cron": "* * * * *", "time_zone": "Mars/Base"}),
        ("schedule.time_zone", {"interval": timedelta(hours=1), "time_zone": "Europe/Berlin"}),
        ("schedule.interval", {"interval": timedelta(seconds=59)}),
        ("schedule.interval", {"interval": timedelta(days=367)}),
        ("schedule.once", {"once": now - timedelta(seconds=1)}),
        (
            "schedule.once",
            {
                "once": now + timedelta(hours=1),
                "start_time": now + timedelta(hours=2),
            },
        ),
        ("schedule.end_time", {"end_time": now - timedelta(seconds=1)}),
        (
            "schedule.cron",
            {"cron": "0 0 29 2 *", "end_time": now + timedelta(minutes=1)},
        ),
        ("schedule.missed_run_policy", {"missed_run_policy": 7}),
        ("schedule.schedule_id", {"schedule_id": new_id()}),
    ]


async def test_wrong_field_is_named(mesh: Mesh, planner: Principal) -> None:
    async with mesh.process(NO_WORKER) as stubs:
        for field, fields in wrong():
            with pytest.raises(InvalidArgument) as refused:
                await create(stubs, planner, **fields)
            assert [one.field for one in refused.value.field_violations] == [field]
        assert await listed(stubs, planner) == []


async def test_schedule_that_begins_later_counts_from_its_start(
    mesh: Mesh, planner: Principal
) -> None:
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    async with mesh.process(NO_WORKER) as stubs:
        made = await create(stubs, planner, interval=timedelta(hours=5), start_time=start)
        now = await create(stubs, planner, name="now", interval=timedelta(hours=5))
    assert made.next_run_time.ToDatetime(tzinfo=UTC) == start
    assert made.create_time.ToDatetime(tzinfo=UTC) < start
    assert now.next_run_time.ToDatetime() - now.create_time.ToDatetime() == timedelta(hours=5)


async def test_what_a_schedule_may_not_start_is_refused(mesh: Mesh, planner: Principal) -> None:
    narrow = NO_WORKER.model_copy(update={"max_schedules": 1})
    async with mesh.process(narrow) as stubs:
        with pytest.raises(NotFound) as unknown:
            await create(stubs, planner, agent="nobody")
        service = Principal(planner.tenant_id, "chat", "service", planner.permissions)
        with pytest.raises(PermissionDenied):
            await create(stubs, service)
        weak = mesh.colleague("workflow:execute")
        weak = Principal(weak.tenant_id, weak.subject, "user", RIGHTS)
        with pytest.raises(PermissionDenied, match="agent:execute"):
            await create(stubs, weak)
        await create(stubs, planner)
        with pytest.raises(ResourceExhausted):
            await create(stubs, planner, name="second")
    assert unknown.value.reason == "AGENT_NOT_FOUND"


async def test_due_schedule_starts_one_task_with_the_rights_of_now(
    mesh: Mesh, planner: Principal
) -> None:
    async with mesh.process(NOOP) as stubs:
        made = await create(stubs, planner)
        mesh.directory.users[planner.subject] = Principal(
            planner.tenant_id, planner.subject, "user", planner.permissions | {"audit:read"}
        )
        await turn_back(mesh, made.schedule_id, hours=1)

        async def is_done() -> bool:
            return [row["state"] for row in await runs(mesh)] == ["completed"]

        await eventually(is_done)
        (after,) = await listed(stubs, planner)
    (task,) = await runs(mesh)
    assert task["subject"] == planner.subject
    assert "audit:read" in task["owner"]["permissions"]
    assert after.last_run_id == task["task_id"]
    assert after.next_run_time.ToDatetime() == made.next_run_time.ToDatetime()
    assert after.last_run_time.ToDatetime() == made.next_run_time.ToDatetime() - timedelta(hours=1)


async def test_due_schedule_starts_one_run_of_a_workflow(mesh: Mesh, planner: Principal) -> None:
    step = workflow_pb2.WorkflowStep(name="only")
    step.action.agent.agent, step.action.agent.message = "noop", "Go"
    wanted = workflow_service_pb2.CreateWorkflowRequest(
        name="report", definition=workflow_pb2.WorkflowDefinition(steps=[step])
    )
    writer = mesh.colleague(*RIGHTS, "workflow:write")
    async with mesh.process(NOOP) as stubs:
        with acting(writer):
            workflow = (await stubs.workflows.CreateWorkflow(wanted)).workflow
        asked = workflow_service_pb2.CreateScheduleRequest(
            schedule=schedule_pb2.Schedule(
                name="nightly",
                cron="0 * * * *",
                workflow=schedule_pb2.ScheduledWorkflow(workflow_id=workflow.workflow_id),
            )
        )
        with acting(planner):
            made = (await stubs.workflows.CreateSchedule(asked)).schedule
            asked.schedule.name = "other"
            asked.schedule.workflow.workflow_id = new_id()
            with pytest.raises(NotFound) as unknown:
                await stubs.workflows.CreateSchedule(asked)
        await turn_back(mesh, made.schedule_id, hours=1)
        listing = workflow_service_pb2.ListRunsRequest(schedule_id=made.schedule_id)

        async def is_done() -> bool:
            with acting(planner):
                found = (await stubs.workflows.ListRuns(listing)).runs
            return [one.state for one in found] == [task_pb2.TASK_STATE_COMPLETED]

        await eventually(is_done)
        with acting(planner):
            (run,) = (await stubs.workflows.ListRuns(listing)).runs
        (after,) = await listed(stubs, planner)
    assert unknown.value.reason == "WORKFLOW_NOT_FOUND"
    assert (run.run_id, run.created_by) == (after.last_run_id, planner.subject)


async def test_key_with_fewer_rights_hands_out_no_more(mesh: Mesh, planner: Principal) -> None:
    key = Principal(
        planner.tenant_id, planner.subject, "user", RIGHTS | {"agent:execute", "model:invoke"}
    )
    async with mesh.process(NO_WORKER) as stubs:
        made = await create(stubs, key)
        await turn_back(mesh, made.schedule_id, hours=1)
        await eventually(lambda: is_settled(mesh))
    (task,) = await runs(mesh)
    assert frozenset(task["owner"]["permissions"]) == key.permissions


async def test_any_number_of_processes_fire_once(mesh: Mesh, planner: Principal) -> None:
    async with AsyncExitStack() as stack:
        stubs = [await stack.enter_async_context(mesh.process(NO_WORKER)) for _ in range(4)]
        made = [
            await create(stubs[0], planner, name=f"s{n}", missed_run_policy=LATEST)
            for n in range(12)
        ]
        await mesh.rows(
            "UPDATE orchestrator.schedules SET due_at = due_at - interval '1 hour',"
            " look_at = look_at - interval '1 hour', created_at = created_at - interval '1 day'"
            " WHERE tenant_id = $1"
        )
        await eventually(lambda: is_settled(mesh))
    found = await runs(mesh)
    assert len(found) == len(made)
    assert len({row["request_id"].split("/")[1] for row in found}) == len(made)


async def test_process_killed_between_decision_and_run_leaves_the_firing_to_others(
    mesh: Mesh, planner: Principal, tmp_path: Path
) -> None:
    points = ("schedule-settled", "schedule-run-stored")
    async with mesh.process(NO_WORKER) as stubs:
        made = {point: await create(stubs, planner, name=point, paused=True) for point in points}
    async with peers_on_a_port(mesh, tmp_path) as peers:
        for number, point in enumerate(points):
            armed = {
                "MESHWRIGHT_FAILPOINTS": f"{point}=kill",
                "MESHWRIGHT_ORCHESTRATOR__WORKER_SLOTS": "0",
                "MESHWRIGHT_ORCHESTRATOR__NOOP_AGENT": "true",
            }
            async with orchestrator(mesh, tmp_path, peers, **armed) as running:
                await turn_back(mesh, made[point].schedule_id, hours=1)
                await mesh.rows(
                    "UPDATE orchestrator.schedules SET paused = false"
                    " WHERE tenant_id = $1 AND name = $2",
                    point,
                )
                async with asyncio.timeout(20):
                    assert await running.process.wait() == -signal.SIGKILL
            assert len(await runs(mesh)) == number
            async with mesh.process(NO_WORKER):
                await eventually(lambda: is_settled(mesh))
            assert len(await runs(mesh)) == number + 1


async def test_missed_firings_after_a_downtime_follow_the_policy(
    mesh: Mesh, planner: Principal
) -> None:
    # The newest of the missed ones is minutes ago, whatever the minute is.
    cron = f"{(datetime.now(UTC) - timedelta(minutes=10)).minute} * * * *"
    async with mesh.process(NO_WORKER) as stubs:
        made = {
            policy: await create(
                stubs, planner, name=f"s{policy}", cron=cron, missed_run_policy=policy, paused=True
            )
            for policy in (LATEST, SKIP, ALL)
        }
        for one in made.values():
            await turn_back(mesh, one.schedule_id, hours=5)
    async with mesh.process(NOOP) as stubs:
        for one in made.values():
            assert not (await pause(stubs, planner, one.schedule_id, paused=False)).paused
        await eventually(lambda: is_settled(mesh), timeout_seconds=20)
        after = await listed(stubs, planner)
    fired = Counter(row["request_id"].split("/")[1] for row in await runs(mesh))
    assert [fired[one.schedule_id] for one in made.values()] == [1, 0, 5]
    assert len({one.next_run_time.ToDatetime() for one in after}) == 1
    assert after[0].next_run_time.ToDatetime(tzinfo=UTC) > datetime.now(UTC)


async def test_run_that_is_still_at_work_is_waited_for(mesh: Mesh, planner: Principal) -> None:
    async with mesh.process(NO_WORKER) as stubs:
        made = await create(stubs, planner)
        await turn_back(mesh, made.schedule_id, hours=1)
        await eventually(lambda: is_settled(mesh))
        await turn_back(mesh, made.schedule_id, hours=1)

        async def is_waiting() -> bool:
            rows = await mesh.rows(
                "SELECT true FROM orchestrator.schedules WHERE tenant_id = $1"
                " AND due_at < clock_timestamp() AND look_at > clock_timestamp()"
            )
            return bool(rows)

        await eventually(is_waiting)
        assert len(await runs(mesh)) == 1
    # The firing is the same as the one before, for the test turned the clock back: still one run.
    async with mesh.process(NOOP):
        await eventually(lambda: is_settled(mesh))
    assert [row["state"] for row in await runs(mesh)] == ["completed"]


async def test_user_that_is_disabled_pauses_the_schedule(mesh: Mesh, planner: Principal) -> None:
    async with mesh.process(NO_WORKER) as stubs:
        made = await create(stubs, planner)
        del mesh.directory.users[planner.subject]
        await turn_back(mesh, made.schedule_id, hours=1)

        async def is_paused() -> bool:
            (now,) = await listed(stubs, planner)
            return now.paused

        await eventually(is_paused)
        (after,) = await listed(stubs, planner)
    assert after.pause_reason == "PERMISSION_DENIED"
    assert await runs(mesh) == []
    told = [data for data in await mesh.events("notification.created")]
    assert [(one["kind"], one["user_id"]) for one in told] == [("schedule.paused", "")]


async def test_suspended_tenant_fires_when_it_may_again(mesh: Mesh, planner: Principal) -> None:
    async with mesh.process(NO_WORKER) as stubs:
        made = await create(stubs, planner)
        mesh.directory.suspended.add(planner.tenant_id)
        await turn_back(mesh, made.schedule_id, hours=1)

        async def is_postponed() -> bool:
            rows = await mesh.rows(
                "SELECT true FROM orchestrator.schedules WHERE tenant_id = $1"
                " AND look_at > clock_timestamp() + interval '20 s' AND due_at < clock_timestamp()"
            )
            return bool(rows)

        await eventually(is_postponed)
        assert await runs(mesh) == []
    mesh.directory.suspended.clear()
    await mesh.rows("UPDATE orchestrator.schedules SET look_at = due_at WHERE tenant_id = $1")
    async with mesh.process(NO_WORKER):
        await eventually(lambda: is_settled(mesh))
    assert len(await runs(mesh)) == 1
