"""UsageLog on PostgreSQL: the usage row and its event in one transaction, calls grouped.

Calls that end while a transaction of their tenant is being committed share the next one: nobody
waits for a timer, and a busy tenant pays one commit for many calls. What an attempt held is settled
when its row is durable, never before: budgets give nothing back that the ledger does not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass
from typing import Final

import asyncpg

from meshwright_common.clock import Clock, SystemClock
from meshwright_common.errors import Aborted, DeadlineExceeded, ServiceError, Unavailable
from meshwright_common.resilience.retry import Backoff
from meshwright_common.storage.postgres import Database
from meshwright_common.telemetry.logging import get_logger
from meshwright_model_router.adapters import metrics
from meshwright_model_router.adapters.usage_rows import UsageRow, record_all, usage_row
from meshwright_model_router.domain.budgets import Counted, Reservation, unheld
from meshwright_model_router.domain.usage import Outcome, UsageRecord

MAX_BATCH: Final = 200
"""Records of one transaction: well below the time limit of a statement."""
MAX_WAITING: Final = 10_000
"""Records held in memory while the store is away; further calls are refused instead."""
SETTLE_SECONDS: Final = 10.0
"""How long a caller waits for its record to be durable."""
DRAIN_SECONDS: Final = 5.0
"""How long an orderly shutdown goes on trying to write."""

_BACKOFF: Final = Backoff(attempts=10, initial_seconds=0.05, maximum_seconds=2.0)
_logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    row: UsageRow
    reservation: Reservation | None
    written: asyncio.Future[None]


class PostgresUsageLog:
    """UsageLog. Made by `open_usage_log`, which also ends it."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._waiting: dict[str, list[_Entry]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self.waiting_count = 0

    def admit(self) -> None:
        if self.waiting_count >= MAX_WAITING:
            raise Unavailable("Usage cannot be recorded, so no further model calls are made.")

    async def settle(self, record: UsageRecord, reservation: Reservation | None = None) -> None:
        entry = self._enqueue(record, reservation)
        loop = asyncio.get_running_loop()
        late = loop.call_later(SETTLE_SECONDS, _give_up, entry.written)
        try:
            # A caller that gives up takes nothing back: the record is written all the same.
            await entry.written
        finally:
            late.cancel()

    def submit(self, record: UsageRecord, reservation: Reservation | None = None) -> None:
        self._enqueue(record, reservation)

    def _enqueue(self, record: UsageRecord, reservation: Reservation | None) -> _Entry:
        metrics.observe(record)
        if record.outcome is Outcome.FAILED:
            _logger.warning("model_call_failed", deployment=record.deployment, reason=record.reason)
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # The failure is in the log; a caller that left early does not fetch it.
        written.add_done_callback(lambda future: future.cancelled() or future.exception())
        hold = unheld(self._clock.now()) if reservation is None else reservation.hold
        entry = _Entry(usage_row(record, hold), reservation, written)
        self.waiting_count += 1
        queue = self._waiting.get(record.tenant_id)
        if queue is None:
            self._waiting[record.tenant_id] = [entry]
            # A context of its own: the writer works for many callers.
            # house: naked-task: kept in _running until done; drain waits for it or stops it
            task = asyncio.create_task(self._write(record.tenant_id), context=Context())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        else:
            queue.append(entry)
        return entry

    async def _write(self, tenant_id: str) -> None:
        """Write what waits for a tenant until nothing does."""
        queue = self._waiting[tenant_id]
        while queue:
            batch = queue[:MAX_BATCH]
            error = await self._write_batch(tenant_id, batch)
            del queue[: len(batch)]
            self.waiting_count -= len(batch)
            for entry in batch:
                if entry.written.done():
                    continue
                if error is None:
                    entry.written.set_result(None)
                else:
                    entry.written.set_exception(error)
        del self._waiting[tenant_id]

    async def _write_batch(self, tenant_id: str, batch: Sequence[_Entry]) -> Exception | None:
        """Commit a batch, however long the store is away; return why it never will be."""
        attempt = 0
        while True:
            attempt = min(attempt + 1, _BACKOFF.attempts)
            try:
                counted = await record_all(self._database, tenant_id, [one.row for one in batch])
            except (Unavailable, Aborted, DeadlineExceeded) as error:
                _logger.warning("usage_not_recorded_yet", count=len(batch), reason=error.reason)
                await asyncio.sleep(_BACKOFF.delay_seconds(attempt))
            except (ServiceError, asyncpg.PostgresError) as error:
                _logger.exception("usage_refused", count=len(batch))
                _settle(batch, [one.row.counted for one in batch])
                return error
            else:
                _settle(batch, counted)
                return None

    async def drain(self) -> None:
        """Wait until everything is written, for 5 s at most; what is left then is lost."""
        if not self._running:
            return
        _, late = await asyncio.wait(self._running, timeout=DRAIN_SECONDS)
        if late:
            _logger.error("usage_lost_at_shutdown", count=self.waiting_count)
            for task in late:
                task.cancel()
            await asyncio.wait(late)


def _settle(batch: Sequence[_Entry], counted: Sequence[Counted]) -> None:
    for entry, amounts in zip(batch, counted, strict=True):
        if entry.reservation is not None:
            entry.reservation.settle(amounts)


def _give_up(written: asyncio.Future[None]) -> None:
    if not written.done():
        written.set_exception(Unavailable("The usage of this call could not be recorded yet."))


@asynccontextmanager
async def open_usage_log(
    database: Database, clock: Clock | None = None
) -> AsyncIterator[PostgresUsageLog]:
    """Open the log; leaving the block writes what still waits, for 5 s at most."""
    log = PostgresUsageLog(database, clock or SystemClock())
    try:
        yield log
    finally:
        await log.drain()
