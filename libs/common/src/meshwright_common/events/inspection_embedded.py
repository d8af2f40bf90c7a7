"""Looking at the embedded log: the outbox table and the positions beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from meshwright_common.events.inspection import (
    FOLLOW_EVERY_SECONDS,
    PAGE,
    TOPIC_NAMES,
    Logged,
    Position,
    Start,
    TopicState,
)
from meshwright_common.events.ports import Delivery
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unscoped


@dataclass(frozen=True, slots=True)
class _Cursor:
    """The place behind an event: numbers of its transaction, as text, and of its position."""

    transaction_id: str = "0"
    position: int = 0


class EmbeddedInspection:
    """The log in PostgreSQL, read as the tables' owner."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def topics(self) -> list[TopicState]:
        async with unscoped(self._database) as connection:
            kept = {row["topic"]: row for row in await connection.fetch(_TOPICS)}
            readers = await connection.fetch(
                "SELECT topic, array_agg(consumer ORDER BY consumer) AS consumers"
                " FROM events.offsets GROUP BY topic"
            )
        consumers = {row["topic"]: row["consumers"] for row in readers}
        return [
            TopicState(
                topic=topic,
                partitions=1,
                events=kept[topic]["events"] if topic in kept else 0,
                oldest_at=kept[topic]["oldest_at"] if topic in kept else None,
                newest_at=kept[topic]["newest_at"] if topic in kept else None,
                consumers=tuple(consumers.get(topic, ())),
            )
            for topic in TOPIC_NAMES
        ]

    async def positions(self) -> list[Position]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(_POSITIONS)
        return [
            Position(row["consumer"], row["topic"], row["behind"], row["oldest_at"])
            for row in rows
            if row["topic"] in TOPIC_NAMES
        ]

    async def read(self, topic: str, start: Start, *, follow: bool) -> AsyncGenerator[Logged, None]:
        cursor = await self._cursor_at(topic, start)
        since = start if isinstance(start, datetime) else None
        end = None if follow else await self._cursor_at(topic, "end")
        while True:
            rows = await self._page(_READ, topic, cursor, end)
            for row in rows:
                logged = _logged(topic, row)
                if since is None or logged.happened_at >= since:
                    yield logged
            if rows:
                cursor = _Cursor(rows[-1]["transaction_id"], rows[-1]["position"])
            if len(rows) < PAGE:
                if not follow:
                    return
                await asyncio.sleep(FOLLOW_EVERY_SECONDS)

    async def between(
        self, topic: str, since: datetime, until: datetime
    ) -> AsyncGenerator[Sequence[Logged], None]:
        cursor, end = _Cursor(), await self._cursor_at(topic, "end")
        while True:
            rows = await self._page(_BETWEEN, topic, cursor, end, since, until)
            if rows:
                yield [_logged(topic, row) for row in rows]
                cursor = _Cursor(rows[-1]["transaction_id"], rows[-1]["position"])
            if len(rows) < PAGE:
                return

    async def _page(
        self, statement: str, topic: str, after: _Cursor, end: _Cursor | None, *more: object
    ) -> list[Record]:
        async with unscoped(self._database) as connection:
            last = end or await _end(connection, topic)
            return await connection.fetch(
                statement,
                topic,
                *(after.transaction_id, after.position),
                *(last.transaction_id, last.position),
                PAGE,
                *more,
            )

    async def _cursor_at(self, topic: str, start: Start) -> _Cursor:
        """Return the place in front of the first event from `start` on."""
        if start == "beginning":
            return _Cursor()
        async with unscoped(self._database) as connection:
            if start == "end":
                return await _end(connection, topic)
            row = await connection.fetchrow(_BEFORE, topic, start)
        return _Cursor(row["transaction_id"], row["position"]) if row else _Cursor()


async def _end(connection: Connection, topic: str) -> _Cursor:
    """Return the place behind the last event that consumers may see: nothing comes before it."""
    row = await connection.fetchrow(_LAST, topic)
    return _Cursor(row["transaction_id"], row["position"]) if row else _Cursor()


def _logged(topic: str, row: Record) -> Logged:
    return Logged(
        topic=topic,
        delivery=Delivery(
            event_id=row["event_id"],
            tenant_id=row["tenant_id"],
            partition_key=row["partition_key"],
            headers=row["headers"],
            body=row["body"],
            origin=f"{row['transaction_id']}:{row['position']}",
        ),
        logged_at=row["created_at"],
    )


# house: tenantless-sql: the owner looks at the whole log
_TOPICS: Final = """
SELECT topic, count(*) AS events, min(created_at) AS oldest_at, max(created_at) AS newest_at
  FROM events.outbox GROUP BY topic
"""
# house: tenantless-sql: the owner looks at the whole log
_POSITIONS: Final = """
SELECT c.consumer, c.topic, count(o.event_id) AS behind, min(o.created_at) AS oldest_at
  FROM events.offsets c
  LEFT JOIN events.outbox o
    ON o.topic = c.topic AND (o.transaction_id, o.position) > (c.transaction_id, c.position)
 GROUP BY c.consumer, c.topic
 ORDER BY c.consumer, c.topic
"""
# house: tenantless-sql: the owner looks at the whole log
_LAST: Final = """
SELECT transaction_id::text, position FROM events.outbox o
 WHERE topic = $1 AND o.transaction_id < pg_snapshot_xmin(pg_current_snapshot())
 ORDER BY o.transaction_id DESC, position DESC LIMIT 1
"""
# house: tenantless-sql: the owner looks at the whole log
_BEFORE: Final = """
SELECT transaction_id::text, position FROM events.outbox o
 WHERE topic = $1 AND created_at < $2::timestamptz - interval '1 minute'
 ORDER BY o.transaction_id DESC, position DESC LIMIT 1
"""
_COLUMNS: Final = """
SELECT transaction_id::text, position, tenant_id, event_id, partition_key, headers, body, created_at
  FROM events.outbox o
 WHERE topic = $1
   AND (o.transaction_id, position) > ($2::text::xid8, $3::bigint)
   AND (o.transaction_id, position) <= ($4::text::xid8, $5::bigint)
"""
_ORDER: Final = """
 ORDER BY o.transaction_id, position LIMIT $6
"""
_READ: Final = _COLUMNS + _ORDER
_BETWEEN: Final = (
    _COLUMNS
    + "   AND coalesce((headers->>'ce_time')::timestamptz, created_at) >= $7::timestamptz"
    + "   AND coalesce((headers->>'ce_time')::timestamptz, created_at) < $8::timestamptz"
    + _ORDER
)
