"""How tasks ended: questions, answers, and the event they are counted by."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration

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
_COUNT_LIMIT: Final = 1 << 63


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

    Read is what is counted of the JSON form of meshwright.events.v1.TaskResult: by way of the
    message it takes ten times as long.

    Other fields are ignored. Raises: ValueError when one of these is not of that type.
    """
    data = event.data
    state = END_EVENTS[event.event_type]
    if data.get("state") != state:
        raise ValueError(f"state {data.get('state')!r} is not that of the event")
    if not _name(data, "task_id") or not _name(data, "agent"):
        raise ValueError("task_id and agent must not be empty")
    return TaskEnd(
        tenant_id=event.tenant_id,
        time=values.event_time(event),
        user_id=_name(data, "user_id"),
        agent=_name(data, "agent"),
        state=state,
        total_tokens=_count(data, "total_tokens"),
        cost_micro_usd=_count(data, "cost_micro_usd"),
        duration_milliseconds=_count(data, "duration_milliseconds"),
    )


def _name(data: Mapping[str, object], field: str) -> str:
    name = data.get(field) or ""
    if not isinstance(name, str) or len(name) > MAX_NAME_CHARACTERS or "\0" in name:
        raise ValueError(f"{field} is no name")
    return name


def _count(data: Mapping[str, object], field: str) -> int:
    # Numbers of 64 bits are texts in JSON, or numbers when others wrote them.
    told = data.get(field) or 0
    if isinstance(told, bool) or not isinstance(told, int | str):
        raise ValueError(f"{field} is no number")
    count = int(told)
    if not 0 <= count < _COUNT_LIMIT:
        raise ValueError(f"{field} is negative, or too large")
    return count


def _duration(milliseconds: int) -> Duration:
    wire = Duration()
    wire.FromTimedelta(timedelta(milliseconds=milliseconds))
    return wire
