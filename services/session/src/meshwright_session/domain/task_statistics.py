"""How tasks ended, by day: what is counted, who may see it, and how it is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple, Protocol

from meshwright_common.clock import Clock
from meshwright_common.context import Principal
from meshwright_common.errors import invalid
from meshwright_session.domain import paging
from meshwright_session.domain.paging import Page, PageRequest
from meshwright_session.domain.usage_reports import DEFAULT_DAYS, visible_user


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """The end of one task, as its event tells it. `time` is when it ended."""

    tenant_id: str
    time: datetime
    user_id: str
    agent: str
    state: str
    total_tokens: int
    cost_micro_usd: int
    duration_milliseconds: int


@dataclass(frozen=True, slots=True)
class TaskStatistics:
    """The tasks of one agent that ended in one state on one UTC day, as YYYY-MM-DD."""

    day: str
    agent: str
    state: str
    task_count: int
    total_tokens: int
    cost_micro_usd: int
    duration_milliseconds: int


class StatisticsPosition(NamedTuple):
    """Place in statistics ordered by day, agent and state."""

    day: str
    agent: str
    state: str


@dataclass(frozen=True, slots=True)
class TaskQuestion:
    """What is asked. `user_id` is empty for all that the caller may see."""

    start: datetime | None
    end: datetime | None
    user_id: str


class TaskCounter(Protocol):
    """Counts tasks inside the transaction in which their events are handled."""

    async def count(self, ends: Sequence[TaskEnd]) -> None:
        """Add the ends of tasks of one tenant. It does not know them again: once for each."""
        ...


class TaskStatisticsReader(Protocol):
    """Reads the statistics of one tenant. `user_id` None: of all users."""

    async def by_day(
        self,
        tenant_id: str,
        user_id: str | None,
        first_day: date,
        last_day: date,
        after: StatisticsPosition | None,
        limit: int,
    ) -> Sequence[TaskStatistics]:
        """Return up to `limit` rows after a place, ordered by day, agent and state."""
        ...


class TaskReports:
    """The use case."""

    def __init__(self, reader: TaskStatisticsReader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock

    async def by_day(
        self, caller: Principal, question: TaskQuestion, page: PageRequest
    ) -> Page[TaskStatistics]:
        """Return a page of statistics. Raises: OthersUsage; InvalidArgument for a wrong period."""
        user_id = visible_user(caller, question.user_id)
        first_day, last_day = self._days(question)
        scope = _scope(caller, question)
        position = paging.decode(scope, page.token, (str, str, str))
        after = None if position is None else StatisticsPosition(*map(str, position))
        rows = await self._reader.by_day(
            caller.tenant_id, user_id, first_day, last_day, after, page.size + 1
        )
        shown, last = paging.cut(rows, page.size)
        if last is None:
            return Page(shown)
        return Page(shown, paging.encode(scope, (last.day, last.agent, last.state)))

    def _days(self, question: TaskQuestion) -> tuple[date, date]:
        now = self._clock.now()
        if question.start and question.end and question.start > question.end:
            raise invalid("start_time", "must not be after end_time")
        start = question.start or now - timedelta(days=DEFAULT_DAYS)
        # The day of the last moment before the end.
        last = (question.end or now + timedelta(microseconds=1)) - timedelta(microseconds=1)
        return start.astimezone(UTC).date(), last.astimezone(UTC).date()


def _scope(caller: Principal, question: TaskQuestion) -> paging.Scope:
    start = "" if question.start is None else question.start.isoformat()
    end = "" if question.end is None else question.end.isoformat()
    return (caller.tenant_id, caller.subject, "tasks", question.user_id, start, end)
