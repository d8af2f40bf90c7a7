"""How tasks ended: questions, answers, and the event they are counted by."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration

from meshwright.events.v1 import task_pb2
from meshwright.session.v1 import usage_service_pb2
from meshwright_common.events.envelope import Event
from meshwright_session.domain.task_statistics import TaskEnd, TaskQuestion, TaskStatistics
from meshwright_session.wire import values
from meshwright_session.wire.usage import MAX_NAME_CHARACTERS

END_EVENTS: Final = {
    "agent.task.completed": "completed",
    "agent.task.failed": "failed",
    "agent.task.cancelled": "cancelled",
    "agent.task.expired": "expired",
}
"""States by the event types that tell of them."""
_COUNTS: Final = ("total_tokens", "cost_micro_usd", "duration_milliseconds")


def question(request: usage_service_pb2.QueryTaskStatisticsRequest) -> TaskQuestion:
    """Return what is asked. Raises: InvalidArgument naming the field."""
    return TaskQuestion(
        start=values.moment(request, "start_time"),
        end=values.moment(request, "end_time"),
        user_id=values.text(request.user_id, "user_id", most=MAX_NAME_CHARACTERS),
    )


def statistics_messages(
    rows: Iterable[TaskStatistics],
) -> list[usage_service_pb2.TaskStatistics]:
    """Return statistics as the wire shows them."""
    return [
        usage_service_pb2.TaskStatistics(
            day=row.day,
            agent=row.agent,
            state=row.state,
            task_count=row.task_count,
            total_tokens=row.total_tokens,
            cost_micro_usd=row.cost_micro_usd,
            total_duration=_duration(row.duration_milliseconds),
        )
        for row in rows
    ]


def end_of(event: Event) -> TaskEnd:
    """Return the end of a task that an event of END_EVENTS tells.

    Fields of later versions are ignored. Raises: ValueError when the data is not of that type.
    """
    data = task_pb2.TaskResult()
    try:
        json_format.ParseDict(dict(event.data), data, ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise ValueError(str(error)) from error
    state = END_EVENTS[event.event_type]
    if data.state != state:
        raise ValueError(f"state {data.state!r} is not that of the event")
    for field in _COUNTS:
        if getattr(data, field) < 0:
            raise ValueError(f"{field} is negative")
    for field in ("user_id", "agent"):
        name: str = getattr(data, field)
        if len(name) > MAX_NAME_CHARACTERS or "\0" in name:
            raise ValueError(f"{field} is no name")
    if not data.task_id or not data.agent:
        raise ValueError("task_id and agent must not be empty")
    return TaskEnd(
        tenant_id=event.tenant_id,
        time=values.event_time(event),
        user_id=data.user_id,
        agent=data.agent,
        state=state,
        total_tokens=data.total_tokens,
        cost_micro_usd=data.cost_micro_usd,
        duration_milliseconds=data.duration_milliseconds,
    )


def _duration(milliseconds: int) -> Duration:
    wire = Duration()
    wire.FromTimedelta(timedelta(milliseconds=milliseconds))
    return wire
