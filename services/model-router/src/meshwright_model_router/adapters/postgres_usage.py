"""UsageLog on PostgreSQL: the usage row and its event in one transaction, calls grouped.

Calls that end while a transaction of their tenant is being committed share the next one: nobody
waits for a timer, and a busy tenant pays one commit for many calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass
from typing import Final

import asyncpg

from meshwright_common.errors import Aborted, DeadlineExceeded, ServiceError, Unavailable
from meshwright_common.events import outbox
from meshwright_common.events.envelope import Event
from meshwright_common.events.topics import Topic
from meshwright_common.resilience.retry import Backoff
from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.telemetry.logging import get_logger
from meshwright_model_router.adapters import metrics
from meshwright_model_router.domain.usage import Outcome, UsageRecord

MAX_BATCH: Final = 200
"""Records of one transaction: well below the time limit of a statement."""
MAX_WAITING: Final = 10_000
"""Records held in memory while the store is away; further calls are refused instead."""
SETTLE_SECONDS: Final = 10.0
"""How long a caller waits for its record to be durable."""
DRAIN_SECONDS: Final = 5.0
"""How long an orderly shutdown goes on trying to write."""
SOURCE: Final = "model-router"
EVENT_TYPE: Final = "model.usage.recorded"

_BACKOFF: Final = Backoff(attempts=10, initial_seconds=0.05, maximum_seconds=2.0)
_logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    record: UsageRecord
    event: Event
    written: asyncio.Future[None]


class PostgresUsageLog:
    """UsageLog. Made by `open_usage_log`, which also ends it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[str, list[_Entry]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self.waiting_count = 0

    def admit(self) -> None:
        if self.waiting_count >= MAX_WAITING:
            raise Unavailable("Usage cannot be recorded, so no further model calls are made.")

    async def settle(self, record: UsageRecord) -> None:
        entry = self._enqueue(record)
        try:
            # A caller that gives up takes nothing back: the record is written all the same.
            await asyncio.wait_for(asyncio.shield(entry.written), SETTLE_SECONDS)
        except TimeoutError as error:
            raise Unavailable("The usage of this call could not be recorded yet.") from error

    def submit(self, record: UsageRecord) -> None:
        self._enqueue(record)

    def _enqueue(self, record: UsageRecord) -> _Entry:
        metrics.observe(record)
        if record.outcome is Outcome.FAILED:
            _logger.warning("model_call_failed", deployment=record.deployment, reason=record.reason)
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # The failure is in the log; a caller that left early does not fetch it.
        written.add_done_callback(lambda future: future.cancelled() or future.exception())
        entry = _Entry(record, _event(record), written)
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
                async with unit_of_work(self._database, tenant_id) as connection:
                    await _insert(connection, batch)
            except (Unavailable, Aborted, DeadlineExceeded) as error:
                _logger.warning("usage_not_recorded_yet", count=len(batch), reason=error.reason)
                await asyncio.sleep(_BACKOFF.delay_seconds(attempt))
            except (ServiceError, asyncpg.PostgresError) as error:
                _logger.exception("usage_refused", count=len(batch))
                return error
            else:
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


@asynccontextmanager
async def open_usage_log(database: Database) -> AsyncIterator[PostgresUsageLog]:
    """Open the log; leaving the block writes what still waits, for 5 s at most."""
    log = PostgresUsageLog(database)
    try:
        yield log
    finally:
        await log.drain()


async def _insert(connection: Connection, batch: Sequence[_Entry]) -> None:
    """Insert the records that are new, and the events of just those."""
    rows = await connection.fetch(_INSERT, *zip(*map(_row, batch), strict=True))
    new = {tuple(row) for row in rows}
    events: list[Event] = []
    for entry in batch:
        key = _key(entry.record)
        if key in new:
            new.discard(key)
            events.append(entry.event)
    if events:
        await outbox.append_all(connection, Topic.USAGE_STATS, events)


def _key(record: UsageRecord) -> tuple[str, int, int, str]:
    attribution = record.attribution
    return attribution.task_id, attribution.step, attribution.attempt, record.operation.value


def _row(entry: _Entry) -> tuple[str | int | bool, ...]:
    record = entry.record
    usage = record.usage
    return (
        record.tenant_id,
        *_key(record),
        record.user_id,
        record.attribution.session_id,
        record.attribution.feature,
        record.model,
        record.deployment,
        record.provider,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
        usage.cost_micro_usd,
        usage.estimated,
        record.outcome.value,
        record.first_token_milliseconds,
        record.duration_milliseconds,
    )


_INSERT: Final = """
INSERT INTO model_router.model_usage (
    tenant_id, task_id, step, attempt, operation, user_id, session_id, feature, model, deployment,
    provider, prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, cost_micro_usd,
    estimated, outcome, first_token_milliseconds, duration_milliseconds)
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::integer[], $4::integer[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::text[], $11::text[], $12::bigint[], $13::bigint[], $14::bigint[],
    $15::bigint[], $16::bigint[], $17::boolean[], $18::text[], $19::bigint[], $20::bigint[])
ON CONFLICT (tenant_id, task_id, step, attempt, operation) DO NOTHING
RETURNING task_id, step, attempt, operation
"""


def _event(record: UsageRecord) -> Event:
    usage, attribution = record.usage, record.attribution
    return Event.new(
        event_type=EVENT_TYPE,
        source=SOURCE,
        tenant_id=record.tenant_id,
        # Work of a service has no user: it is ordered by tenant.
        partition_key=record.user_id or record.tenant_id,
        correlation_id=record.correlation_id,
        data={
            "task_id": attribution.task_id,
            "step": attribution.step,
            "attempt": attribution.attempt,
            "user_id": record.user_id,
            "session_id": attribution.session_id,
            "feature": attribution.feature,
            "operation": record.operation.value,
            "model": record.model,
            "deployment": record.deployment,
            "provider": record.provider,
            # proto3 JSON writes 64-bit integers as strings.
            "prompt_tokens": str(usage.prompt_tokens),
            "completion_tokens": str(usage.completion_tokens),
            "cached_tokens": str(usage.cached_tokens),
            "reasoning_tokens": str(usage.reasoning_tokens),
            "cost_micro_usd": str(usage.cost_micro_usd),
            "estimated": usage.estimated,
            "outcome": record.outcome.value,
            "first_token_milliseconds": str(record.first_token_milliseconds),
            "duration_milliseconds": str(record.duration_milliseconds),
        },
    )
