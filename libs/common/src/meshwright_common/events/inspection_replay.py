"""Handing events of a time range to a consumer again.

In one transaction a page of events is forgotten (the consumer's notes that it handled them) and
put where failed events wait, due now: the running consumer applies them, behind what waits of
their keys. Handlers stay harmless by their own unique keys: what they have written is not written
twice, what was lost is written again.

Only what the consumer has handled is handed over. What it has not read yet comes by itself, in its
order; what it gave up is a dead letter; what waits already waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from meshwright_common.events.inspection import Logged, LogInspection
from meshwright_common.events.inspection_acts import record_act
from meshwright_common.events.outbox import CHANNEL
from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import unscoped

NOTE: Final = "is handed over again by an operator"


@dataclass(frozen=True, slots=True)
class ReplayRange:
    """Events of `topic` that happened from `since` up to `until`, for `consumer` again.

    An empty `key` or `tenant_id` stands for all.
    """

    consumer: str
    topic: str
    since: datetime
    until: datetime
    key: str = ""
    tenant_id: str = ""

    def includes(self, logged: Logged) -> bool:
        """Say whether an event of the time range is meant."""
        delivery = logged.delivery
        return self.key in {"", delivery.partition_key} and self.tenant_id in {
            "",
            delivery.tenant_id,
        }


@dataclass(frozen=True, slots=True)
class Replayed:
    """Events `found` in the range, and how many of them the consumer had `handled`."""

    found: int = 0
    handled: int = 0

    def __add__(self, other: Replayed) -> Replayed:
        return Replayed(self.found + other.found, self.handled + other.handled)


async def survey(database: Database, log: LogInspection, wanted: ReplayRange) -> Replayed:
    """Return what `replay` would hand over; change nothing."""
    total = Replayed()
    async for page in log.between(wanted.topic, wanted.since, wanted.until):
        events = [one for one in page if wanted.includes(one)]
        async with unscoped(database) as connection:
            handled: int = await connection.fetchval(
                "SELECT count(*) FROM events.inbox WHERE consumer = $1 AND event_id = ANY ($2)",
                wanted.consumer,
                [one.delivery.event_id for one in events],
            )
        total += Replayed(len(events), handled)
    return total


async def replay(
    database: Database,
    log: LogInspection,
    wanted: ReplayRange,
    *,
    operator: str,
    reason: str,
    tell: Callable[[Replayed], None],
) -> Replayed:
    """Hand the events over, in the order of the log; `tell` hears the sum after each page.

    Interrupted, the pages before it stay handed over. Run again, it hands over what was applied
    since, which changes nothing either.
    """
    total = Replayed()
    async for page in log.between(wanted.topic, wanted.since, wanted.until):
        events = [one for one in page if wanted.includes(one)]
        if events:
            async with unscoped(database) as connection:
                handed = await _hand_over(connection, wanted, events)
                await _record(connection, wanted, handed, operator, reason)
            total += Replayed(len(events), len(handed))
        tell(total)
    return total


async def _hand_over(
    connection: Connection, wanted: ReplayRange, events: Sequence[Logged]
) -> list[Logged]:
    rows = await connection.fetch(
        "DELETE FROM events.inbox WHERE consumer = $1 AND event_id = ANY ($2) RETURNING event_id",
        wanted.consumer,
        [one.delivery.event_id for one in events],
    )
    handled = {row["event_id"] for row in rows}
    # A log may hold an event twice; the second is the same event.
    handed = {one.delivery.event_id: one for one in events if one.delivery.event_id in handled}
    await connection.executemany(
        _PARK,
        [
            (
                *(one.delivery.tenant_id, wanted.consumer, one.delivery.event_id),
                *(wanted.topic, one.delivery.partition_key, dict(one.delivery.headers)),
                *(one.delivery.body, one.delivery.origin, NOTE),
            )
            for one in handed.values()
        ],
    )
    await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, wanted.topic)
    return list(handed.values())


async def _record(
    connection: Connection,
    wanted: ReplayRange,
    handed: Sequence[Logged],
    operator: str,
    reason: str,
) -> None:
    tenants = [one.delivery.tenant_id for one in handed]
    for tenant_id in sorted(set(tenants)):
        await record_act(
            connection,
            action="events.replayed",
            tenant_id=tenant_id,
            consumer=wanted.consumer,
            operator=operator,
            details={
                "topic": wanted.topic,
                "from": wanted.since.isoformat(),
                "to": wanted.until.isoformat(),
                "count": tenants.count(tenant_id),
                "reason": reason,
            },
        )


_PARK: Final = """
INSERT INTO events.parked (tenant_id, consumer, event_id, topic, partition_key, headers, body,
                           origin, attempts, due_at, error)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, now(), $9)
ON CONFLICT (tenant_id, consumer, event_id) DO NOTHING
"""
