"""The relay: carries events from the outbox to a broker. Any number may run, in any processes.

Keys fall into 16 shards. A relay claims some for one pass (advisory locks of its transaction, which
end with it), reads each behind its cursor, publishes, and when the broker has all of it, moves the
cursors and commits.

What order rests on: whoever publishes begins right behind a cursor that was committed, and goes on
without a gap, in order. A relay that dies, or is paused and finds its claims gone, may have events
published twice, by itself or by who comes after it; but whatever interleaving the broker sees, the
first occurrence of an event stands behind the first occurrence of all earlier ones of its key.
Consumers drop the second ones.

The broker's answer is awaited in a transaction that has no number of its own yet: while it waits,
nobody's reading of the log is held up.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from datetime import date
from typing import Final

from meshwright_common.errors import DeadlineExceeded, Unavailable
from meshwright_common.events import metrics
from meshwright_common.events.ports import Delivery, EventPublisher, OutgoingEvent
from meshwright_common.events.topics import retentions
from meshwright_common.events.wakeups import wake_ups
from meshwright_common.storage.postgres import Database, Record, TransactionConflict
from meshwright_common.storage.tenancy import unscoped
from meshwright_common.telemetry.logging import get_logger

SHARDS: Final = 16
MOST_PER_SHARD: Final = 250
MOST_BYTES: Final = 8 * 1024 * 1024
"""Of bodies in one pass, over all shards."""
LAST_POSITION: Final = 2**63 - 1
"""Behind all events of a transaction."""
POLL_SECONDS: Final = 0.25
"""The longest that a committed event waits when its wake-up was lost."""
GATHER_SECONDS: Final = 0.005
"""Pause after a pass: one costs the same for an event as for many."""
HELD_BACK_SECONDS: Final = 0.01
"""Pause when there is more, but behind a transaction that still runs."""
COUNT_EVERY_SECONDS: Final = 1.0
MEASURE_SECONDS: Final = 5.0
FIRST_BACKOFF_SECONDS: Final = 0.1
LONGEST_BACKOFF_SECONDS: Final = 2.0
"""What waits is published within 5 s of the broker's return (R-08)."""

logger = get_logger(__name__)


class Relay:
    """Publishes the outbox of `database` by `publisher`."""

    def __init__(self, database: Database, publisher: EventPublisher) -> None:
        self._database = database
        self._publisher = publisher
        self._stopping = asyncio.Event()
        self._first_shard = random.randrange(SHARDS)  # noqa: S311 - relays begin at different ones
        self._share = SHARDS

    async def run(self) -> None:
        """Work until `stop` is called. Waits out an absent PostgreSQL or broker."""
        heard = asyncio.Event()
        woken = dict.fromkeys(retentions(), heard)
        async with (
            # The connection that listens has a lock: to count its holders is to count the relays.
            wake_ups(self._database, woken, opening=_APPEAR, closing=_DISAPPEAR),
            asyncio.TaskGroup() as group,
        ):
            beside = [
                group.create_task(self._keep_counting()),
                group.create_task(self._keep_measuring()),
            ]
            try:
                await self._work(heard)
            finally:
                for task in beside:
                    task.cancel()

    def stop(self) -> None:
        """Finish the pass under way and let `run` return."""
        self._stopping.set()

    async def _work(self, heard: asyncio.Event) -> None:
        failures = 0
        while not self._stopping.is_set():
            heard.clear()
            try:
                pause = await self._pass()
            except (Unavailable, DeadlineExceeded, TransactionConflict) as error:
                if not failures:
                    logger.warning("relay_waits", error=str(error))
                metrics.BROKER_AWAY.set(1)
                pause = min(FIRST_BACKOFF_SECONDS * 2**failures, LONGEST_BACKOFF_SECONDS)
                pause *= random.uniform(0.5, 1.0)  # noqa: S311 - jitter
                failures = min(failures + 1, 10)
                await self._sleep(pause)
                continue
            if failures:
                logger.info("relay_resumed")
            metrics.BROKER_AWAY.set(0)
            failures = 0
            if pause is None:
                await self._wait(heard, POLL_SECONDS)
            else:
                await self._sleep(pause)

    async def _pass(self) -> float | None:
        """Publish once; return for how long to pause, None to wait for more.

        Raises: Unavailable, DeadlineExceeded or TransactionConflict: nothing was moved.
        """
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(
                _CLAIM,
                self._first_shard,
                self._share,
                MOST_PER_SHARD,
                MOST_BYTES // SHARDS,
            )
            head = rows[0]
            self._first_shard = (self._first_shard + max(1, head["claimed"])) % SHARDS
            if head["shard"] is None:
                rows = []
            else:
                await self._publisher.publish([_outgoing(row) for row in rows])
            if moves := _moves(head, rows):
                await connection.execute(_MOVE, *zip(*moves, strict=True))
        if not rows:
            return HELD_BACK_SECONDS if head["held_back"] else None
        metrics.OUTBOX_PUBLISHED.inc(len(rows))
        return GATHER_SECONDS

    async def _keep_counting(self) -> None:
        """Know how many relays there are, and claim no more than a fair part."""
        while True:
            with contextlib.suppress(Unavailable, DeadlineExceeded):
                async with self._database.connection() as connection:
                    relays = max(1, await connection.fetchval(_COUNT))
                self._share = -(-SHARDS // relays)
            await asyncio.sleep(COUNT_EVERY_SECONDS)

    async def _keep_measuring(self) -> None:
        while True:
            with contextlib.suppress(Unavailable, DeadlineExceeded):
                async with self._database.connection() as connection:
                    backlog = await connection.fetchrow(_BACKLOG)
                if backlog is not None:
                    metrics.OUTBOX_WAITING.set(backlog["waiting"])
                    metrics.OUTBOX_OLDEST_SECONDS.set(backlog["oldest_seconds"])
            await asyncio.sleep(MEASURE_SECONDS)

    async def _wait(self, heard: asyncio.Event, seconds: float) -> None:
        async with asyncio.TaskGroup() as group:
            woken = group.create_task(heard.wait())
            stopped = group.create_task(self._stopping.wait())
            await asyncio.wait(
                (woken, stopped), timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            woken.cancel()
            stopped.cancel()

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


def _outgoing(row: Record) -> OutgoingEvent:
    return OutgoingEvent(
        row["topic"],
        Delivery(
            event_id=row["event_id"],
            tenant_id=row["tenant_id"],
            partition_key=row["partition_key"],
            headers=row["headers"],
            body=row["body"],
            origin="",
        ),
    )


def _moves(head: Record, rows: Sequence[Record]) -> list[tuple[int, str, int, date]]:
    """Return where the cursors go: behind what was published, and away from days long past."""
    last = {row["shard"]: row for row in rows}
    moves = [
        (shard, str(row["transaction_id"]), row["position"], row["day"])
        for shard, row in last.items()
    ]
    return moves + [
        (shard, str(head["horizon"] - 1), LAST_POSITION, head["today"])
        for shard in head["stale"] or ()
        if shard not in last
    ]


_CLAIM: Final = """
SELECT shard, transaction_id, position, day, tenant_id, event_id, topic, partition_key, headers,
       body, claimed, held_back, stale, horizon, today
  FROM events.claim_shards($1, $2, $3, $4)
"""
_MOVE: Final = """
UPDATE events.relay_cursors c
   SET transaction_id = m.transaction_id::xid8, position = m.position, day = m.day,
       moved_at = now()
  FROM unnest($1::smallint[], $2::text[], $3::bigint[], $4::date[])
       AS m (shard, transaction_id, position, day)
 WHERE c.shard = m.shard
"""
_BACKLOG: Final = "SELECT waiting, oldest_seconds FROM events.relay_backlog()"
_ALIVE: Final = "hashtextextended('meshwright.relays', 0)"
_APPEAR: Final = f"SELECT pg_advisory_lock_shared({_ALIVE})"
_DISAPPEAR: Final = f"SELECT pg_advisory_unlock_shared({_ALIVE})"
_COUNT: Final = f"""
SELECT count(*) FROM pg_locks
 WHERE locktype = 'advisory' AND granted AND objsubid = 1
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND (classid::bigint << 32 | objid::bigint) = {_ALIVE}
"""  # noqa: S608 - an expression of ours
