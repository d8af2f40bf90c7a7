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

from meshwright_common.errors import Unavailable
from meshwright_common.events.outbox import CHANNEL
from meshwright_common.events.ports import Batch, Delivery, Subscription
from meshwright_common.events.topics import TOPICS, Topic
from meshwright_common.storage.postgres import Connection, Database, Record, is_lost
from meshwright_common.storage.tenancy import unscoped
from meshwright_common.telemetry.logging import get_logger

LISTEN_AGAIN_SECONDS: Final = 1.0
PRUNE_EVERY_SECONDS: Final = 3600.0
PRUNE_BATCH: Final = 2000

logger = get_logger(__name__)


class EmbeddedLog:
    """The event log in the service's own PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextlib.asynccontextmanager
    async def subscribe(
        self, consumer: str, topics: Sequence[Topic]
    ) -> AsyncIterator[Mapping[Topic, Subscription]]:
        woken = {topic.value: asyncio.Event() for topic in topics}
        subscriptions = {
            topic: _TableSubscription(self._database, consumer, topic, woken[topic.value])
            for topic in topics
        }
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(self._listen(woken), name=f"{consumer}-listen")
            try:
                yield subscriptions
            finally:
                listening.cancel()

    async def _listen(self, woken: Mapping[str, asyncio.Event]) -> None:
        """Hold one connection that hears about commits, and a new one when it breaks."""
        while True:
            try:
                async with self._database.connection() as connection:
                    await _hear(connection, woken)
            except Unavailable as error:
                logger.info("event_wake_ups_interrupted", error=str(error))
            await asyncio.sleep(LISTEN_AGAIN_SECONDS)


async def _hear(connection: Connection, woken: Mapping[str, asyncio.Event]) -> None:
    """Set the event of each topic that is appended to. Returns when the connection is lost."""
    lost = asyncio.Event()

    def on_notification(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        if isinstance(payload, str) and payload in woken:
            woken[payload].set()

    def on_termination(_connection: object) -> None:
        lost.set()

    connection.add_termination_listener(on_termination)
    await connection.add_listener(CHANNEL, on_notification)
    try:
        # What was committed before we listened made no sound.
        for topic in woken.values():
            topic.set()
        await lost.wait()
    finally:
        if not is_lost(connection):
            connection.remove_termination_listener(on_termination)
            await connection.remove_listener(CHANNEL, on_notification)


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
            name = f"{self.consumer}/{self.topic.value}"
            if not await connection.fetchval(_CLAIM, name):
                yield None
                return
            rows = await self._read(connection, most)
            found = [row for row in rows if row["event_id"] is not None]
            yield Batch(
                connection=connection,
                deliveries=[_delivery(row) for row in found],
                more=bool(rows[0]["held_back"]),
            )
            if found:
                last = found[-1]
                await connection.execute(
                    _MOVE, self.consumer, self.topic.value, last["transaction_id"], last["position"]
                )

    async def wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.woken.wait()
        except TimeoutError:
            return

    async def _read(self, connection: Connection, most: int) -> list[Record]:
        cursor = await connection.fetchrow(_CURSOR, self.consumer, self.topic.value)
        if cursor is None:
            # From now on retention knows that this consumer has not passed anything.
            await connection.execute(_JOIN, self.consumer, self.topic.value)
            return await connection.fetch(_READ, self.topic.value, "0", 0, most)
        return await connection.fetch(
            _READ, self.topic.value, cursor["transaction_id"], cursor["position"], most
        )


def _delivery(row: Record) -> Delivery:
    return Delivery(
        event_id=row["event_id"],
        tenant_id=row["tenant_id"],
        partition_key=row["partition_key"],
        headers=row["headers"],
        body=row["body"],
        origin=f"{row['transaction_id']}:{row['position']}",
    )


async def prune(database: Database) -> int:
    """Delete what is older than its topic's retention and behind all consumers; return how many."""
    deleted = 0
    for topic, facts in TOPICS.items():
        pruned = PRUNE_BATCH
        while pruned == PRUNE_BATCH:
            async with unscoped(database) as connection:
                pruned = await connection.fetchval(
                    "SELECT events.prune($1, $2, $3)", topic.value, facts.retention, PRUNE_BATCH
                )
            deleted += pruned
    return deleted


async def keep_within_retention(database: Database) -> None:
    """Prune every hour, for ever: a background task of one service. Waits out an absent store."""
    while True:
        try:
            if deleted := await prune(database):
                logger.info("events_pruned", count=deleted)
        except Unavailable as error:
            logger.warning("events_not_pruned", error=str(error))
        await asyncio.sleep(PRUNE_EVERY_SECONDS)


_CLAIM: Final = (
    "SELECT pg_try_advisory_xact_lock(hashtextextended('meshwright.consumer/' || $1, 0))"
)

# xid8 goes as text: the driver has no number type of 64 unsigned bits for it.
_CURSOR: Final = """
SELECT transaction_id::text, position FROM events.offsets WHERE consumer = $1 AND topic = $2
"""
_JOIN: Final = """
INSERT INTO events.offsets (consumer, topic) VALUES ($1, $2) ON CONFLICT DO NOTHING
"""
_READ: Final = """
SELECT transaction_id::text, position, tenant_id, event_id, partition_key, headers, body, held_back
  FROM events.read_log($1, $2::text::xid8, $3, $4)
"""
_MOVE: Final = """
UPDATE events.offsets
   SET transaction_id = $3::text::xid8, position = $4, moved_at = now()
 WHERE consumer = $1 AND topic = $2
"""
