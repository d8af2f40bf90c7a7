"""Schedules: protobuf to domain and back, with the checks of shape."""

import math
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import orjson
from google.protobuf import duration_pb2, json_format, timestamp_pb2

from meshwright.orchestrator.v1 import schedule_pb2, task_pb2
from meshwright_common.errors import InvalidArgument, invalid
from meshwright_common.ids import parse_id
from meshwright_orchestrator.domain.conversation import JsonObject
from meshwright_orchestrator.domain.models import TaskSpec
from meshwright_orchestrator.domain.schedule_desk import Wish
from meshwright_orchestrator.domain.schedules import (
    MissedRuns,
    Schedule,
    Target,
    WorkflowTarget,
)
from meshwright_orchestrator.domain.timing import (
    MAX_INTERVAL,
    MIN_INTERVAL,
    AnyOccurrences,
    Cron,
    Interval,
    Once,
    check_cron,
    check_zone,
)
from meshwright_orchestrator.wire import tasks, values
from meshwright_orchestrator.wire.structs import check_struct

MAX_NAME_CHARACTERS: Final = 100
MAX_TARGET_BYTES: Final = 256 * 1024
_OUTPUT_ONLY: Final = (
    *("schedule_id", "next_run_time", "last_run_time", "last_run_id", "created_by"),
    *("create_time", "pause_reason"),
)
_POLICIES: Final = {
    schedule_pb2.MISSED_RUN_POLICY_UNSPECIFIED: MissedRuns.LATEST,
    schedule_pb2.MISSED_RUN_POLICY_LATEST: MissedRuns.LATEST,
    schedule_pb2.MISSED_RUN_POLICY_SKIP: MissedRuns.SKIP,
    schedule_pb2.MISSED_RUN_POLICY_ALL: MissedRuns.ALL,
}
_POLICY_NUMBERS: Final = {policy: number for number, policy in _POLICIES.items() if number != 0}


def wish_from(schedule: schedule_pb2.Schedule, now: datetime) -> Wish:
    """Return what is asked for. Raises: InvalidArgument naming the field."""
    for field, _ in schedule.ListFields():
        if field.name in _OUTPUT_ONLY:
            raise invalid(f"schedule.{field.name}", "is the platform's to say: leave it out")
    if not 1 <= len(schedule.name) <= MAX_NAME_CHARACTERS or "\0" in schedule.name:
        raise invalid("schedule.name", f"must be 1 to {MAX_NAME_CHARACTERS} characters")
    if schedule.missed_run_policy not in _POLICIES:
        raise invalid("schedule.missed_run_policy", "is no policy")
    start, end = _moment(schedule, "start_time"), _moment(schedule, "end_time")
    if end is not None and end <= max(now, start or now):
        raise invalid("schedule.end_time", "must be in the future and after start_time")
    return Wish(
        name=schedule.name,
        occurrences=_occurrences_from(schedule, start or now),
        target=_target_from(schedule, now),
        missed_runs=_POLICIES[schedule.missed_run_policy],
        start=start,
        end=end,
        paused=schedule.paused,
    )


def _occurrences_from(schedule: schedule_pb2.Schedule, start: datetime) -> AnyOccurrences:
    timing = schedule.WhichOneof("timing")
    if schedule.time_zone and timing != "cron":
        raise invalid("schedule.time_zone", "belongs to cron: leave it out")
    match timing:
        case "cron":
            return Cron(
                check_cron(schedule.cron, "schedule.cron"),
                check_zone(schedule.time_zone, "schedule.time_zone"),
            )
        case "interval":
            every = _duration(schedule.interval)
            if not MIN_INTERVAL <= every <= MAX_INTERVAL:
                raise invalid("schedule.interval", f"must be 1 minute to {MAX_INTERVAL.days} days")
            return Interval(every, start)
        case "once":
            return Once(_moment_from(schedule.once, "once"))
        case None:
            raise invalid("schedule", "must have one of cron, interval and once")


def _duration(duration: duration_pb2.Duration) -> timedelta:
    seconds = duration.seconds + duration.nanos / 1e9
    if not math.isfinite(seconds) or abs(seconds) > MAX_INTERVAL.total_seconds() + 1:
        return timedelta.max
    return timedelta(seconds=seconds)


def _moment(
    schedule: schedule_pb2.Schedule, field: Literal["start_time", "end_time"]
) -> datetime | None:
    return _moment_from(getattr(schedule, field), field) if schedule.HasField(field) else None


def _moment_from(value: timestamp_pb2.Timestamp, field: str) -> datetime:
    try:
        return value.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise invalid(f"schedule.{field}", "is not a time") from None


def _target_from(schedule: schedule_pb2.Schedule, now: datetime) -> Target:
    match schedule.WhichOneof("target"):
        case "task":
            return _task_from(schedule.task, now)
        case "workflow":
            return WorkflowTarget(
                parse_id(schedule.workflow.workflow_id, "schedule.workflow.workflow_id"),
                _input_from(schedule.workflow),
            )
        case None:
            raise invalid("schedule", "must have a task or a workflow to start")


def _task_from(task: task_pb2.TaskSpec, now: datetime) -> TaskSpec:
    for field in ("deadline", "start_time"):
        if task.HasField(field):
            raise invalid(f"schedule.task.{field}", "belongs to one task: leave it out")
    if (size := task.ByteSize()) >= MAX_TARGET_BYTES:
        raise invalid("schedule.task", f"has {size} bytes, must be below {MAX_TARGET_BYTES}")
    try:
        return tasks.spec_from(task, now)
    except InvalidArgument as error:
        (wrong,) = error.field_violations
        field = wrong.field.replace("spec", "schedule.task", 1)
        raise invalid(field, wrong.description) from None


def _input_from(workflow: schedule_pb2.ScheduledWorkflow) -> JsonObject | None:
    if not workflow.HasField("input"):
        return None
    check_struct(workflow.input, "schedule.workflow.input")
    value: JsonObject = json_format.MessageToDict(workflow.input)
    if (size := len(orjson.dumps(value))) > MAX_TARGET_BYTES:
        raise invalid(
            "schedule.workflow.input", f"has {size} bytes as JSON, may have {MAX_TARGET_BYTES}"
        )
    return value


def schedule_message(schedule: Schedule) -> schedule_pb2.Schedule:
    """Return a schedule as the wire shows it."""
    message = schedule_pb2.Schedule(
        schedule_id=schedule.schedule_id,
        name=schedule.name,
        missed_run_policy=_POLICY_NUMBERS[schedule.missed_runs],
        paused=schedule.paused,
        last_run_id=schedule.last_run_id,
        created_by=schedule.created_by,
        pause_reason=schedule.pause_reason,
    )
    match schedule.timing.occurrences:
        case Cron(expression, time_zone):
            message.cron, message.time_zone = expression, time_zone
        case Interval(every=every):
            message.interval.FromTimedelta(every)
        case Once(only):
            message.once.FromDatetime(only)
    if isinstance(schedule.target, WorkflowTarget):
        message.workflow.workflow_id = schedule.target.workflow_id
        if (content := values.struct_message(schedule.target.input)) is not None:
            message.workflow.input.CopyFrom(content)
    else:
        message.task.CopyFrom(tasks.spec_message(schedule.target))
    for moment, field in (
        (schedule.start, message.start_time),
        (schedule.end, message.end_time),
        (None if schedule.paused else schedule.due, message.next_run_time),
        (schedule.last_run_at, message.last_run_time),
        (schedule.created_at, message.create_time),
    ):
        if moment is not None:
            field.FromDatetime(moment)
    return message
