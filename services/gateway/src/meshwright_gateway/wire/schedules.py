"""Schedules: JSON bodies to requests, messages to JSON bodies."""

from datetime import timedelta
from typing import Final

from meshwright.orchestrator.v1 import schedule_pb2, task_pb2, workflow_service_pb2
from meshwright.types.v1 import message_pb2
from meshwright_gateway.errors import misshapen
from meshwright_gateway.http.schemas import schedules as schemas
from meshwright_gateway.wire import values, work

_POLICIES: Final = {
    "latest": schedule_pb2.MISSED_RUN_POLICY_LATEST,
    "skip": schedule_pb2.MISSED_RUN_POLICY_SKIP,
    "all": schedule_pb2.MISSED_RUN_POLICY_ALL,
}


def create_request(
    body: schemas.ScheduleCreation, request_id: str
) -> workflow_service_pb2.CreateScheduleRequest:
    """Return the request that makes a schedule. Raises: ShapeRefused."""
    timings = (body.cron, body.interval_seconds, body.once)
    if sum(one is not None for one in timings) != 1:
        raise misshapen("cron", "give one of cron, interval_seconds and once")
    if (body.task is None) == (body.workflow is None):
        raise misshapen("task", "give either task or workflow")
    schedule = schedule_pb2.Schedule(
        name=body.name,
        time_zone=body.time_zone,
        missed_run_policy=_POLICIES[body.missed_runs],
        start_time=values.timestamp_of(body.start_time),
        end_time=values.timestamp_of(body.end_time),
        paused=body.paused,
    )
    if body.cron is not None:
        schedule.cron = body.cron
    elif body.interval_seconds is not None:
        schedule.interval.FromTimedelta(timedelta(seconds=body.interval_seconds))
    elif body.once is not None:
        schedule.once.FromDatetime(body.once)
    if body.task is not None:
        schedule.task.CopyFrom(work.task_spec(body.task))
        schedule.task.priority = work.PRIORITIES[body.task.priority]
    elif body.workflow is not None:
        schedule.workflow.workflow_id = body.workflow.workflow_id
        if body.workflow.input is not None:
            schedule.workflow.input.CopyFrom(values.struct_from(body.workflow.input))
    return workflow_service_pb2.CreateScheduleRequest(schedule=schedule, request_id=request_id)


def schedule_view(schedule: schedule_pb2.Schedule) -> schemas.Schedule:
    """Return a schedule as JSON shows it."""
    timing = schedule.WhichOneof("timing")
    return schemas.Schedule.model_validate(
        {
            "schedule_id": schedule.schedule_id,
            "name": schedule.name,
            "cron": schedule.cron if timing == "cron" else None,
            "interval_seconds": (
                schedule.interval.ToTimedelta().total_seconds() if timing == "interval" else None
            ),
            "once": values.time_from(schedule.once),
            "time_zone": schedule.time_zone,
            "task": _task_view(schedule.task) if schedule.HasField("task") else None,
            "workflow": _workflow_view(schedule),
            "missed_runs": values.enum_name(
                schedule_pb2.MissedRunPolicy, schedule.missed_run_policy, "MISSED_RUN_POLICY_"
            ),
            "start_time": values.time_from(schedule.start_time),
            "end_time": values.time_from(schedule.end_time),
            "paused": schedule.paused,
            "pause_reason": schedule.pause_reason,
            "next_run_time": values.time_from(schedule.next_run_time),
            "last_run_time": values.time_from(schedule.last_run_time),
            "last_run_id": schedule.last_run_id,
            "created_by": schedule.created_by,
            "create_time": values.moment_from(schedule.create_time),
        }
    )


def _task_view(task: task_pb2.TaskSpec) -> schemas.ScheduledTask:
    return schemas.ScheduledTask.model_validate(
        {
            "agent": task.agent,
            "messages": [
                {
                    "role": values.enum_name(message_pb2.Role, message.role, "ROLE_"),
                    "content": "".join(part.text for part in message.parts),
                }
                for message in task.messages
            ],
            "session_id": task.session_id,
            "model": task.model,
            "knowledge_base_ids": list(task.knowledge_base_ids),
            "max_steps": task.max_steps,
            "priority": values.enum_name(task_pb2.TaskPriority, task.priority, "TASK_PRIORITY_"),
            "input": values.object_from(task.input),
            "metadata": values.object_from(task.metadata),
        }
    )


def _workflow_view(schedule: schedule_pb2.Schedule) -> schemas.ScheduledWorkflow | None:
    if not schedule.HasField("workflow"):
        return None
    workflow = schedule.workflow
    return schemas.ScheduledWorkflow(
        workflow_id=workflow.workflow_id,
        input=values.object_from(workflow.input) if workflow.HasField("input") else None,
    )
