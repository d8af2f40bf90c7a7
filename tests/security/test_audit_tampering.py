"""R-24, S-70: whatever a superuser does to an audit log, at any place, is detected and named."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, cast

import pytest
import pytest_asyncio

from meshwright_common.ids import new_id
from meshwright_common.storage.postgres import Database, prepare_connection
from meshwright_common.testing.engines import DatabaseSettingsFor, PostgresServer
from meshwright_session.adapters.checkpoint_objects import CheckpointObjects
from meshwright_session.adapters.postgres_audit import PostgresAuditReader
from meshwright_session.adapters.postgres_checkpoints import PostgresCheckpoints
from meshwright_session.record_parts import make_verifier
from services.session.tests.audit_log import OneTransaction, open_audit_logs
from tests.security.audit_tampering import COVERED, RECORDS, TAMPERINGS, Tampered

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(180)]

PLACES: Final = 1000


@pytest_asyncio.fixture
async def log(
    database_settings: DatabaseSettingsFor, postgres_server: PostgresServer, tmp_path: Path
) -> AsyncIterator[Tampered]:
    """A log of RECORDS records, and another tenant's of the same size."""
    settings = await database_settings("meshwright_session")
    async with open_audit_logs(settings, postgres_server, tmp_path) as logs:
        tenant_id, other_id = new_id(), new_id()
        for count in (3, 3, 3, RECORDS - COVERED):
            for tenant in (tenant_id, other_id):
                await logs.append(tenant, count)
            if count == COVERED // 3:
                assert await logs.checkpoint() == 2
        assert (await logs.verify(tenant_id)).valid
        async with logs.as_superuser() as connection:
            await prepare_connection(connection)
            await connection.execute("SET session_replication_role = replica")
            database = cast(Database, OneTransaction(connection))
            yield Tampered(
                logs=logs,
                tenant_id=tenant_id,
                other_id=other_id,
                connection=connection,
                vault=CheckpointObjects(logs.objects),
                verifier=make_verifier(database, logs.objects, logs.signer.keys),
                reader=PostgresAuditReader(database),
                checkpoints=PostgresCheckpoints(database),
                random=random.Random(24),  # noqa: S311 - places, no secrets
            )


@pytest.mark.promise("REC-04")
async def test_tampering_at_a_thousand_random_places_is_detected(log: Tampered) -> None:
    kept: dict[int, str] = {}
    for number in (1, 2, 3):
        kept[number] = await log.vault.text(log.tenant_id, number) or ""
    undetected: list[str] = []
    for round_number in range(PLACES):
        tampering = TAMPERINGS[round_number % len(TAMPERINGS)]
        transaction = log.connection.transaction()
        await transaction.start()
        expected = await tampering(log)
        verdict = await log.verdict()
        await transaction.rollback()
        await _restore_copies(log, kept)
        if verdict.flaw is None or not verdict.flaw.problem:
            undetected.append(tampering.__name__)
        elif expected is None:
            assert 1 <= verdict.flaw.sequence <= RECORDS + 1, (tampering.__name__, verdict)
        else:
            assert verdict.flaw.sequence == expected, (tampering.__name__, verdict)
    assert undetected == []
    verdict = await log.verdict()
    assert (verdict.valid, verdict.record_count, verdict.checkpoint_count) == (True, RECORDS, 3)
    assert verdict.checkpointed_sequence == COVERED


async def _restore_copies(log: Tampered, kept: dict[int, str]) -> None:
    listed = await log.vault.numbers(log.tenant_id, 0, 10)
    for number in {*listed, *kept}:
        if number not in kept:
            await log.vault.remove(log.tenant_id, number)
        elif await log.vault.text(log.tenant_id, number) != kept[number]:
            await log.write_copy(number, kept[number])
