"""Dead letters and waiting events of all consumers and tenants, as operators see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from meshwright_common.events import dead_letter
from meshwright_common.events.dead_letter import DeadLetter
from meshwright_common.events.inspection_acts import record_act
from meshwright_common.events.ports import Delivery
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unscoped

REPLAYED_AT_ONCE: Final = 500
"""Dead letters that are handed back in one transaction."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a consumer has put aside of a topic: events to be tried again, and dead letters.

    `parked_since` is when the longest waiting one failed first; None when none waits.
    """

    consumer: str
    topic: str
    parked: int
    parked_since: datetime | None
    dead_letters: int


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which dead letters: those for which all that is given holds. `error` is a part of one's."""

    consumer: str | None = None
    topic: str | None = None
    tenant_id: str | None = None
    since: datetime | None = None
    error: str | None = None
    event_ids: Sequence[str] | None = None


async def waiting(database: Database) -> list[Waiting]:
    """Return what every consumer has put aside, by consumer and topic."""
    async with unscoped(database) as connection:
        rows = await connection.fetch(_WAITING)
    return [
        Waiting(row["consumer"], row["topic"], row["parked"], row["since"], row["dead_letters"])
        for row in rows
    ]


async def find(database: Database, wanted: LetterFilter, *, most: int) -> list[DeadLetter]:
    """Return up to `most` dead letters, the newest first."""
    async with unscoped(database) as connection:
        rows = await connection.fetch(_FIND, *_arguments(wanted), most)
    return [_letter(row) for row in rows]


async def count(database: Database, wanted: LetterFilter) -> int:
    """Return how many dead letters there are."""
    async with unscoped(database) as connection:
        found: int = await connection.fetchval(_COUNT, *_arguments(wanted))
    return found


async def replay(database: Database, wanted: LetterFilter, *, operator: str, reason: str) -> int:
    """Hand dead letters back to their consumers, the oldest first; return how many.

    Each is tried anew, behind what waits of its key. The log of every tenant whose events they
    are tells who did it and why. Safe to repeat, and to run beside the consumers.
    """
    replayed = 0
    while True:
        async with unscoped(database) as connection:
            rows = await connection.fetch(_OLDEST, *_arguments(wanted), REPLAYED_AT_ONCE)
            if not rows:
                return replayed
            replayed += await _replay(connection, rows, operator, reason)


async def _replay(
    connection: Connection, rows: Sequence[Record], operator: str, reason: str
) -> int:
    chosen: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        chosen.setdefault((row["tenant_id"], row["consumer"]), []).append(row["event_id"])
    replayed = 0
    for (tenant_id, consumer), event_ids in chosen.items():
        handed = await dead_letter.replay(
            connection, tenant_id=tenant_id, consumer=consumer, event_ids=event_ids
        )
        replayed += handed
        await record_act(
            connection,
            action="events.dead_letters_replayed",
            tenant_id=tenant_id,
            consumer=consumer,
            operator=operator,
            details={"count": handed, "reason": reason},
        )
    return replayed


def for_ids(wanted: LetterFilter, event_ids: Sequence[str]) -> LetterFilter:
    """Return the filter narrowed to these events."""
    return replace(wanted, event_ids=tuple(event_ids))


def _arguments(wanted: LetterFilter) -> tuple[object, ...]:
    return (
        *(wanted.consumer, wanted.topic, wanted.tenant_id, wanted.since, wanted.error),
        None if wanted.event_ids is None else list(wanted.event_ids),
    )


def _letter(row: Record) -> DeadLetter:
    return DeadLetter(
        consumer=row["consumer"],
        topic=row["topic"],
        delivery=Delivery(
            event_id=row["event_id"],
            tenant_id=row["tenant_id"],
            partition_key=row["partition_key"],
            headers=row["headers"],
            body=row["body"],
            origin=row["origin"],
        ),
        attempts=row["attempts"],
        error=row["error"],
        died_at=row["died_at"],
    )


# house: tenantless-sql: the owner looks at all tenants
_WAITING: Final = """
WITH parked AS (
    SELECT consumer, topic, count(*) AS events, min(parked_at) AS since
      FROM events.parked GROUP BY consumer, topic
), dead AS (
    SELECT consumer, topic, count(*) AS events FROM events.dead_letters GROUP BY consumer, topic
)
SELECT consumer, topic, coalesce(p.events, 0) AS parked, p.since,
       coalesce(d.events, 0) AS dead_letters
  FROM parked p FULL JOIN dead d USING (consumer, topic)
 ORDER BY consumer, topic
"""
_CHOSEN: Final = """
  FROM events.dead_letters
 WHERE ($1::text IS NULL OR consumer = $1)
   AND ($2::text IS NULL OR topic = $2)
   AND ($3::uuid IS NULL OR tenant_id = $3)
   AND ($4::timestamptz IS NULL OR died_at >= $4)
   AND ($5::text IS NULL OR position(lower($5) IN lower(error)) > 0)
   AND ($6::uuid[] IS NULL OR event_id = ANY ($6))
"""
_FIND: Final = (
    "SELECT tenant_id, consumer, event_id, topic, partition_key, headers, body, origin, attempts,"
    f" error, died_at {_CHOSEN} ORDER BY died_at DESC, event_id DESC LIMIT $7"
)
_OLDEST: Final = (
    f"SELECT tenant_id, consumer, event_id {_CHOSEN} ORDER BY died_at, event_id LIMIT $7"
)
_COUNT: Final = f"SELECT count(*) {_CHOSEN}"
