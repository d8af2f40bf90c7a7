"""The usage ledger compared with the event log call by call, and put right: for operators.

Reads as the owner of the tables. What was lost is written again by the consumer's own statement,
which writes no call twice; sums of a day are made anew from its rows. Nothing else is changed: a
row that says something else than its event, or has none, is for people to look at.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from meshwright_common.events.envelope import EventMalformed, decode
from meshwright_common.events.inspection import Logged, LogInspection
from meshwright_common.events.inspection_acts import record_act
from meshwright_common.events.topics import Topic
from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_session.adapters.erased_subjects import MindfulUsageLedger
from meshwright_session.adapters.postgres_reconciliation import ToldUsage, forget_calls, sum_up
from meshwright_session.consumers import CONSUMER, USAGE_RECORDED
from meshwright_session.domain.usage_models import UsageRow
from meshwright_session.domain.usage_reconciliation import Reconciled, ReconciledPeriod, Repaired
from meshwright_session.wire import usage

BATCH: Final = 1000
"""Calls that are written again in one transaction."""
MARGIN: Final = timedelta(days=1)
"""Events are read from so much before and after: clocks of reporters are wrong now and then."""


async def reconcile(database: Database, log: LogInspection, period: ReconciledPeriod) -> Reconciled:
    """Compare the ledger and its sums with the events of the log; change nothing.

    Raises: Unavailable, DeadlineExceeded.
    """
    async with database.connection() as connection:
        told = ToldUsage(connection, period)
        await told.open()
        try:
            return await _compare(told, log, period)
        finally:
            await told.close()


async def repair(
    database: Database, log: LogInspection, period: ReconciledPeriod, *, operator: str
) -> tuple[Repaired, Reconciled]:
    """Write lost calls again and mend sums; return that, and what differs afterwards.

    The audit log of each tenant tells who did it. Safe to repeat, and beside the consumers.
    """
    repaired = Repaired()
    async with database.connection() as connection:
        told = ToldUsage(connection, period)
        await told.open()
        try:
            before = await _compare(told, log, period)
            for tenant_id, event_ids in (await told.missing(CONSUMER)).items():
                for first in range(0, len(event_ids), BATCH):
                    rows = await told.rows(tenant_id, event_ids[first : first + BATCH])
                    repaired += await _write_again(database, tenant_id, rows, operator)
        finally:
            await told.close()
    days: dict[str, set[date]] = {}
    for one in before.differences:
        if one.kind == "sums":
            days.setdefault(one.tenant_id, set()).add(one.day)
    for tenant_id, wrong in sorted(days.items()):
        repaired += await _sum_up(database, tenant_id, sorted(wrong), operator)
    return repaired, await reconcile(database, log, period)


async def _compare(told: ToldUsage, log: LogInspection, period: ReconciledPeriod) -> Reconciled:
    began = _now()
    unreadable = await _read(log, period, told)
    events_since = await _events_since(log)
    done = await told.compare(CONSUMER, events_since)
    if done.counts:
        # What was told while we were reading has been added to the ledger since.
        until = max(period.until, began + MARGIN)
        late = ReconciledPeriod(period.tenant_id, began - MARGIN, until)
        await _read(log, late, told)
        done = await told.compare(CONSUMER, events_since)
    done.unreadable = unreadable
    return done


async def _read(log: LogInspection, period: ReconciledPeriod, told: ToldUsage) -> int:
    """Add the events of a period; return how many are no reports of calls."""
    unreadable = 0
    pages = log.between(Topic.USAGE_STATS.value, period.since - MARGIN, period.until + MARGIN)
    async for page in pages:
        rows = []
        for logged in page:
            if period.tenant_id in (None, logged.delivery.tenant_id):
                row = _row_of(logged)
                if row is None:
                    unreadable += 1
                else:
                    rows.append((row, logged.logged_at))
        await told.add(rows)
    return unreadable


def _row_of(logged: Logged) -> UsageRow | None:
    """Return what an event tells; None when it tells of no call, as the consumer would find."""
    try:
        event = decode(logged.delivery.headers, logged.delivery.body)
        return usage.row_of(event) if event.event_type == USAGE_RECORDED else None
    except (EventMalformed, ValueError):
        return None


async def _events_since(log: LogInspection) -> datetime | None:
    for topic in await log.topics():
        if topic.topic == Topic.USAGE_STATS.value:
            return topic.oldest_at
    return None


async def _write_again(
    database: Database, tenant_id: str, rows: Sequence[UsageRow], operator: str
) -> Repaired:
    """Write calls again, and the sums of their days from the rows: they may have had them still."""
    days = sorted({row.time.astimezone(UTC).date() for row in rows})
    async with unit_of_work(database, tenant_id) as connection:
        await forget_calls(connection, tenant_id, [row.event_id for row in rows])
        await MindfulUsageLedger(connection).record_all(rows)
        await sum_up(connection, tenant_id, days)
        await _record(connection, tenant_id, operator, calls=len(rows), days=days)
    return Repaired(calls=len(rows))


async def _sum_up(
    database: Database, tenant_id: str, days: Sequence[date], operator: str
) -> Repaired:
    async with unit_of_work(database, tenant_id) as connection:
        await sum_up(connection, tenant_id, days)
        await _record(connection, tenant_id, operator, calls=0, days=days)
    return Repaired(days=len(days))


async def _record(
    connection: Connection, tenant_id: str, operator: str, *, calls: int, days: Sequence[date]
) -> None:
    await record_act(
        connection,
        action="usage.repaired",
        tenant_id=tenant_id,
        consumer=CONSUMER,
        operator=operator,
        details={"calls": calls, "days": [day.isoformat() for day in days]},
    )


def _now() -> datetime:
    # house: wall-clock: compared with moments that other machines wrote down
    return datetime.now(UTC)
