"""What can be proved, and how fast: audit chains verified, the usage ledger compared."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import psutil

from bench.durable_database import durable_database
from bench.measurement import Measurement
from bench.processes import ProcessError
from bench.targets import Target
from meshwright_common.events import outbox
from meshwright_common.events.envelope import Event
from meshwright_common.events.inspection import open_operator_database
from meshwright_common.events.inspection_embedded import EmbeddedInspection
from meshwright_common.events.topics import Topic
from meshwright_common.identity.signing import RecordSigner, ephemeral_record_signer
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings, ObjectSettings
from meshwright_common.storage.bootstrap import OWNER_SERVICE
from meshwright_common.storage.objects import open_objects
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_session.adapters.postgres_audit import PostgresAuditChain
from meshwright_session.adapters.postgres_usage import PostgresUsageLedger
from meshwright_session.domain.audit_records import AuditEntry
from meshwright_session.domain.audit_trail import add_all_to_chain
from meshwright_session.domain.usage_reconciliation import ReconciledPeriod
from meshwright_session.record_parts import make_verifier, record_parts
from meshwright_session.settings import SessionSection
from meshwright_session.usage_reconciliation import reconcile
from meshwright_session.wire import usage

VERIFY: Final = "audit_verify"
RECONCILE: Final = "usage_reconcile"
ABOUT: Final = {
    VERIFY: "audit records/s of one chain recomputed and compared with a checkpoint for every "
    "1 000 and its copy (1 M records), and how much memory that takes beyond what it began with",
    RECONCILE: "usage events/s of the event log compared with the ledger, call by call, and the "
    "sums of days with their rows (200 k events)",
}
RECORDS: Final = 1_000_000
QUICK_RECORDS: Final = 20_000
EVENTS: Final = 200_000
QUICK_EVENTS: Final = 10_000
TOGETHER: Final = 1000
SAMPLE_SECONDS: Final = 0.05
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Books:
    """A database with its superuser's eyes, and a folder for objects."""

    settings: DatabaseSettings
    database: Database
    folder: Path
    signer: RecordSigner


def measure(
    wanted: Collection[str], *, repeats: int, quick: bool, scratch: Path
) -> list[Measurement]:
    """Fill the tables once and run the wanted figures. Raises: ProcessError for a wrong answer."""
    with durable_database(scratch) as settings:
        return asyncio.run(
            _measure(wanted, settings, repeats=repeats, quick=quick, scratch=scratch)
        )


async def _measure(
    wanted: Collection[str],
    settings: DatabaseSettings,
    *,
    repeats: int,
    quick: bool,
    scratch: Path,
) -> list[Measurement]:
    measurements: list[Measurement] = []
    async with open_database(settings, "session") as database:
        books = Books(settings, database, scratch / "objects", ephemeral_record_signer())
        if VERIFY in wanted:
            count = QUICK_RECORDS if quick else RECORDS
            tenant_id = await _fill_chain(books, count)
            measurements += [
                await _verify(books, tenant_id, count, repeat) for repeat in range(repeats)
            ]
        if RECONCILE in wanted:
            count = QUICK_EVENTS if quick else EVENTS
            tenant_id = await _fill_ledger(books, count)
            measurements += [
                await _reconcile(books, tenant_id, count, repeat) for repeat in range(repeats)
            ]
    return measurements


async def _fill_chain(books: Books, count: int) -> str:
    tenant_id = new_id()
    now = datetime.now(UTC) - timedelta(hours=1)
    async with open_objects(ObjectSettings(url=books.folder.as_uri())) as objects:
        parts = record_parts(SessionSection(), books.database, objects, books.signer)
        for first in range(0, count, TOGETHER):
            entries = [_entry(tenant_id, first + number, now) for number in range(TOGETHER)]
            async with unit_of_work(books.database, tenant_id) as connection:
                await add_all_to_chain(PostgresAuditChain(connection), entries)
            await parts.checkpointer.round(seconds=3600, records=TOGETHER)
    return tenant_id


def _entry(tenant_id: str, number: int, now: datetime) -> AuditEntry:
    return AuditEntry(
        tenant_id=tenant_id,
        event_id=new_id(),
        time=now + timedelta(microseconds=number),
        actor=tenant_id,
        action="tool.called",
        resource=f"tool/{number % 50}",
        outcome="allowed",
        source="tool-exec",
        request_id=tenant_id,
        details_json=f'{{"attempt":1,"step":{number % 9},"task_id":"{tenant_id}"}}',
    )


async def _verify(books: Books, tenant_id: str, count: int, repeat: int) -> Measurement:
    async with open_objects(ObjectSettings(url=books.folder.as_uri())) as objects:
        verifier = make_verifier(books.database, objects, books.signer.keys)
        async with _memory() as memory:
            began = time.perf_counter()
            verdict = await verifier.verify(tenant_id)
            seconds = time.perf_counter() - began
    if not verdict.valid or verdict.record_count != count:
        raise ProcessError(f"{VERIFY}: {verdict}")
    return Measurement(
        VERIFY,
        Target.SESSION,
        repeat,
        {
            "records_per_second": count / seconds,
            "seconds": seconds,
            "checkpoints": float(verdict.checkpoint_count),
            "memory_growth_mib": memory.growth_bytes / _MIB,
        },
    )


@dataclass(slots=True)
class _Memory:
    growth_bytes: int = 0


@asynccontextmanager
async def _memory() -> AsyncIterator[_Memory]:
    """Watch the memory of this process while the block runs."""
    process = psutil.Process(os.getpid())
    before, memory = process.memory_info().rss, _Memory()

    async def watch() -> None:
        while True:
            memory.growth_bytes = max(memory.growth_bytes, process.memory_info().rss - before)
            await asyncio.sleep(SAMPLE_SECONDS)

    # house: naked-task: over when the block is left
    watching = asyncio.create_task(watch())
    try:
        yield memory
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def _fill_ledger(books: Books, count: int) -> str:
    tenant_id = new_id()
    for first in range(0, count, TOGETHER):
        events = [_event(tenant_id, first + number) for number in range(TOGETHER)]
        async with unit_of_work(books.database, tenant_id) as connection:
            await outbox.append_all(connection, Topic.USAGE_STATS, events)
            await PostgresUsageLedger(connection).record_all(
                [usage.row_of(event) for event in events]
            )
    return tenant_id


def _event(tenant_id: str, number: int) -> Event:
    return Event.new(
        event_type="model.usage.recorded",
        source="model-router",
        tenant_id=tenant_id,
        partition_key=tenant_id,
        data={
            "task_id": new_id(),
            "step": 1,
            "attempt": 1,
            "user_id": f"user-{number % 100}",
            "operation": "generate",
            "model": f"model-{number % 3}",
            "deployment": "d",
            "provider": "p",
            "prompt_tokens": str(number),
            "completion_tokens": "7",
            "cost_micro_usd": "11",
            "outcome": "completed",
        },
    )


async def _reconcile(books: Books, tenant_id: str, count: int, repeat: int) -> Measurement:
    url = books.settings.url.replace("{service}", OWNER_SERVICE)
    now = datetime.now(UTC)
    period = ReconciledPeriod(tenant_id, now - timedelta(days=1), now + timedelta(days=1))
    async with (
        open_operator_database(books.settings) as operator,
        open_database(
            DatabaseSettings(url=url), "session", max_size=3, statement_timeout_seconds=60
        ) as database,
    ):
        began = time.perf_counter()
        done = await reconcile(database, EmbeddedInspection(operator), period)
        seconds = time.perf_counter() - began
    if not done.agrees or (done.events, done.rows) != (count, count):
        raise ProcessError(f"{RECONCILE}: {done.counts} {done.events} {done.rows}")
    return Measurement(
        RECONCILE,
        Target.SESSION,
        repeat,
        {"events_per_second": count / seconds, "seconds": seconds},
    )
