"""The log of `embedded:` events: the outbox table itself, positions beside it, NOTIFY to wake.

One batch at a time per consumer and topic, in any number of processes: the batch's transaction
holds an advisory lock, and with it ends every claim of a process that died.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from meshwright_common.events.ports import Batch, Delivery, Subscription
from meshwright_common.events.topics import Topic
from meshwright_common.events.wakeups import wake_ups
from meshwright_common.storage.postgres import Database, Record
from meshwright_common.storage.tenancy import unscoped


class EmbeddedLog:
    """The event log in the service's own PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextlib.asynccontextmanager
    async def subscribe(
        self, consumer: str, topics: Sequence[Topic]
    ) -> AsyncIterator[Mapping[Topic, Subscription]]:
        woken = {topic.value: asyncio.Event() for topic in topics}
        async with wake_ups(self._database, woken):
            yield {
                topic: _TableSubscription(self._database, consumer, topic, woken[topic.value])
                for topic in topics
            }


@dataclass(slots=True)
class _TableSubscription:
    """One consumer's reading of one topic of the table."""

    database: Database
    consumer: str
    topic: Topic
    woken: asyncio.Event

    @contextlib.asynccontextmanager
    async def batch(self, most: int) -> AsyncIterator[Batch | None]:
        # Cleared first: what commits while we read sets it again.
        self.woken.clear()
        async with unscoped(self.database) as connection:
            rows = await connection.fetch(_TAKE, self.consumer, self.topic.value, most)
            if not rows:
                yield None
                return
            found = [row for row in rows if row["event_id"] is not None]
            yield Batch(
                connection=connection,
                deliveries=[_delivery(row) for row in found],
                more=bool(rows[0]["held_back"]),
            )
            if found:
                last = found[-1]
                await connection.execute(
                    _MOVE,
                    self.consumer,
                    self.topic.value,
                    str(last["transaction_id"]),
                    last["position"],
                    last["day"],
                )

    async def wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.woken.wait()
        except TimeoutError:
            return

    async def lag(self) -> int:
        async with self.database.connection() as connection:
            ahead: int = await connection.fetchval(_LAG, self.consumer, self.topic.value)
        return ahead


def _delivery(row: Record) -> Delivery:
    return Delivery(
        event_id=row["event_id"],
        tenant_id=row["tenant_id"],
        partition_key=row["partition_key"],
        headers=row["headers"],
        body=row["body"],
        origin=f"{row['transaction_id']}:{row['position']}",
    )


_TAKE: Final = """
SELECT transaction_id, position, day, tenant_id, event_id, partition_key, headers, body, held_back
  FROM events.take_batch($1, $2, $3)
"""
# xid8 goes as text: the driver has no number type of 64 unsigned bits for it.
_MOVE: Final = """
UPDATE events.offsets
   SET transaction_id = $3::text::xid8, position = $4, day = $5, moved_at = now()
 WHERE consumer = $1 AND topic = $2
"""
_LAG: Final = "SELECT events.log_lag($1, $2)"
