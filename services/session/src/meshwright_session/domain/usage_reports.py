"""Who may see which part of the usage ledger, and how it is read."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from meshwright_common.clock import Clock
from meshwright_common.context import Principal
from meshwright_common.errors import invalid
from meshwright_session.domain import paging
from meshwright_session.domain.errors import OthersUsage
from meshwright_session.domain.paging import Page, PageRequest
from meshwright_session.domain.ports import UsageReader
from meshwright_session.domain.usage_models import (
    LedgerPosition,
    Period,
    SumPosition,
    Tokens,
    UsageDimension,
    UsageRow,
    UsageSum,
)

SEE_ALL: Final = "usage:read_all"
DEFAULT_DAYS: Final = 30
EXPORT_BATCH_ROWS: Final = 500
"""Rows read at a time by an export: no transaction stays open while the reader is slow."""


@dataclass(frozen=True, slots=True)
class UsageQuestion:
    """What is asked. `user_id` is empty for all that the caller may see."""

    start: datetime | None
    end: datetime | None
    group_by: frozenset[UsageDimension]
    user_id: str


class UsageReports:
    """The use cases."""

    def __init__(self, reader: UsageReader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock

    async def sums(
        self, caller: Principal, question: UsageQuestion, page: PageRequest
    ) -> Page[UsageSum]:
        """Return a page of sums. Raises: OthersUsage; InvalidArgument when start is after end.

        The period is fixed by the first page, so that "now" does not move between pages.
        """
        user_id = visible_user(caller, question.user_id)
        scope = _scope(caller, question)
        position = paging.decode(scope, page.token, (int, int, str, str, str, str))
        if position is None:
            period, after = self._period(question), None
        else:
            start, end, *place = position
            period = Period.between(paging.moment(int(start)), paging.moment(int(end)))
            after = SumPosition(*map(str, place))
        rows = await self._reader.sums(
            caller.tenant_id, user_id, period, question.group_by, after, page.size + 1
        )
        rows, last = paging.cut(rows, page.size)
        if last is None:
            return Page(rows or _nothing(question))
        times = (paging.microseconds(period.start), paging.microseconds(period.end))
        place_after = (*times, last.day, last.user_id, last.model, last.feature)
        return Page(rows, paging.encode(scope, place_after))

    def _period(self, question: UsageQuestion) -> Period:
        now = self._clock.now()
        end = question.end or now
        start = question.start or now - timedelta(days=DEFAULT_DAYS)
        if question.start and question.end and question.start > question.end:
            raise invalid("start_time", "must not be after end_time")
        return Period.between(start, end)

    async def rows(
        self, caller: Principal, start: datetime | None, end: datetime | None
    ) -> AsyncIterator[UsageRow]:
        """Give the ledger's rows in time order, as many as there are before `end` (None: now)."""
        user_id = visible_user(caller, "")
        until = end or self._clock.now()
        after: LedgerPosition | None = None
        while True:
            batch = await self._reader.rows(
                caller.tenant_id, user_id, start, until, after, EXPORT_BATCH_ROWS
            )
            for row in batch:
                yield row
            if len(batch) < EXPORT_BATCH_ROWS:
                return
            after = LedgerPosition(batch[-1].time, batch[-1].event_id)


def visible_user(caller: Principal, wanted: str) -> str | None:
    """Return whose usage a question is about; None: everybody's. Raises: OthersUsage."""
    if caller.has(SEE_ALL):
        return wanted or None
    if wanted not in ("", caller.subject):
        raise OthersUsage(permission=SEE_ALL)
    return caller.subject


def _nothing(question: UsageQuestion) -> tuple[UsageSum, ...]:
    """Return what no calls add up to: one empty sum, or no group at all."""
    if question.group_by:
        return ()
    return (UsageSum("", "", "", "", 0, Tokens(0, 0, 0, 0, 0, estimated=False)),)


def _scope(caller: Principal, question: UsageQuestion) -> paging.Scope:
    start = "" if question.start is None else question.start.isoformat()
    end = "" if question.end is None else question.end.isoformat()
    groups = ",".join(sorted(question.group_by))
    return (caller.tenant_id, caller.subject, "usage", question.user_id, start, end, groups)
