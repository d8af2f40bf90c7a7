"""Schedules as tests make them, and a clock that they can turn back."""

from datetime import datetime, timedelta
from typing import Any

from meshwright.orchestrator.v1 import schedule_pb2, workflow_service_pb2
from meshwright_common.context import Principal
from services.orchestrator.tests.mesh import Mesh, Stubs, acting, user


async def create(
    stubs: Stubs, caller: Principal, *, request_id: str = "", **fields: Any
) -> schedule_pb2.Schedule:
    """Make a schedule of the agent noop, hourly unless said otherwise."""
    asked = workflow_service_pb2.CreateScheduleRequest(request_id=request_id)
    asked.schedule.name = fields.pop("name", "nightly")
    task = asked.schedule.task
    task.agent = fields.pop("agent", "noop")
    task.messages.append(user("Go"))
    if not fields.keys() & {"cron", "interval", "once"}:
        fields["cron"] = "0 * * * *"
    for name, value in fields.items():
        if isinstance(value, datetime):
            getattr(asked.schedule, name).FromDatetime(value)
        elif isinstance(value, timedelta):
            getattr(asked.schedule, name).FromTimedelta(value)
        else:
            setattr(asked.schedule, name, value)
    with acting(caller):
        answer = await stubs.workflows.CreateSchedule(asked)
    made: schedule_pb2.Schedule = answer.schedule
    return made


async def listed(stubs: Stubs, caller: Principal) -> list[schedule_pb2.Schedule]:
    with acting(caller):
        answer = await stubs.workflows.ListSchedules(workflow_service_pb2.ListSchedulesRequest())
    return list(answer.schedules)


async def pause(
    stubs: Stubs, caller: Principal, schedule_id: str, *, paused: bool
) -> schedule_pb2.Schedule:
    asked = workflow_service_pb2.PauseScheduleRequest(schedule_id=schedule_id, paused=paused)
    with acting(caller):
        answer = await stubs.workflows.PauseSchedule(asked)
    changed: schedule_pb2.Schedule = answer.schedule
    return changed


async def turn_back(mesh: Mesh, schedule_id: str, *, hours: float) -> None:
    """Let a schedule look as if nobody had been there for so long."""
    rows = await mesh.rows(
        "UPDATE orchestrator.schedules SET created_at = created_at - make_interval(days => 30),"
        " due_at = due_at - make_interval(secs => $3),"
        " look_at = look_at - make_interval(secs => $3)"
        " WHERE tenant_id = $1 AND schedule_id = $2 RETURNING true",
        schedule_id,
        hours * 3600,
    )
    assert rows


async def runs(mesh: Mesh) -> list[Any]:
    """Return the tasks that there are, in the order of their ids."""
    return await mesh.rows(
        "SELECT task_id, state, subject, owner, request_id FROM orchestrator.tasks"
        " WHERE tenant_id = $1 ORDER BY task_id"
    )


async def is_settled(mesh: Mesh) -> bool:
    """Return whether nothing is due any more."""
    rows = await mesh.rows(
        "SELECT true FROM orchestrator.schedules WHERE tenant_id = $1 AND NOT paused"
        " AND due_at <= clock_timestamp()"
    )
    return not rows
