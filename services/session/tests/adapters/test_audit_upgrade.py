"""An audit log from before months and checkpoints goes into them, and verifies as before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.bootstrap import OWNER_SERVICE
from meshwright_common.storage.migrations import load, migrate
from meshwright_common.testing.engines import DatabaseSettingsFor, PostgresServer
from meshwright_session.domain.audit_chain import Place, link, place_of
from services.session.tests.audit_log import DAY, entry, open_audit_logs

pytestmark = pytest.mark.asyncio

PACKAGE: Final = "meshwright_session"
BEFORE: Final = "0011"
RECORDS: Final = 20


async def migrated_until_then(settings: DatabaseSettings) -> None:
    """Apply the migrations from before, as an older version did."""
    connection = await asyncpg.connect(
        settings.url_for(OWNER_SERVICE), server_settings={"search_path": "session, public"}
    )
    try:
        await connection.execute(
            "CREATE TABLE schema_migrations (name text PRIMARY KEY, sha256 text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT now())"
        )
        for migration in load(PACKAGE):
            if migration.name < BEFORE:
                await connection.execute(migration.sql)
                await connection.execute(
                    "INSERT INTO schema_migrations VALUES ($1, $2)",
                    migration.name,
                    migration.sha256,
                )
        await _record(connection)
    finally:
        await connection.close()


TENANT: Final = new_id()


async def _record(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Write a chain into the table of before; some are dated before the one in front of them."""
    now, place = datetime.now(UTC), Place()
    for number in range(RECORDS):
        since = now - (100 if number % 3 else 200) * DAY
        record = link(entry(TENANT, number, since), place, now=now)
        place = place_of(record)
        one = record.entry
        await connection.execute(
            "INSERT INTO audit_records VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,"
            " $13)",
            *(TENANT, record.sequence, one.event_id, one.time, one.actor, one.action),
            *(one.resource, one.outcome, one.source, one.request_id, one.details_json),
            *(record.previous_hash, record.hash),
        )
    await connection.execute(
        "INSERT INTO audit_heads VALUES ($1, $2, $3)", TENANT, place.sequence, place.hash
    )


async def test_a_log_from_before_verifies_and_goes_on(
    database_settings: DatabaseSettingsFor, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    settings = await database_settings()
    await migrated_until_then(settings)
    applied = await migrate(settings.url_for(OWNER_SERVICE), "session", PACKAGE)
    assert applied[0].startswith(BEFORE)
    async with open_audit_logs(settings, postgres_server, tmp_path) as logs:
        verdict = await logs.verify(TENANT)
        assert (verdict.valid, verdict.record_count) == (True, RECORDS)
        await logs.append(TENANT, 5)
        assert await logs.checkpoint() == 1
        verdict = await logs.verify(TENANT)
        assert (verdict.valid, verdict.checkpointed_sequence) == (True, RECORDS + 5)
        # It is old enough, but its proof is not: nothing is dropped for half a year.
        logs.clock.advance(timedelta(days=1).total_seconds())
        await logs.parts.keeper.let_go()
        assert (await logs.verify(TENANT)).record_count == RECORDS + 5
        again = await logs.query("SELECT count(*) AS events FROM audit_events")
        assert again[0]["events"] == RECORDS + 5
