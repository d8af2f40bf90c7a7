"""The audit log over time: checkpoints whatever dies in between, months that are let go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from meshwright_common.clock import ManualClock
from meshwright_common.ids import new_id
from meshwright_common.settings import ObjectSettings
from meshwright_common.storage.objects import ObjectStoreUnavailable, open_objects
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.engines import DatabaseSettingsFor, PostgresServer
from meshwright_session.adapters.checkpoint_objects import CheckpointObjects
from meshwright_session.adapters.postgres_audit import PostgresAuditChain
from meshwright_session.domain.audit_trail import add_to_chain
from services.session.tests.audit_log import DAY, AuditLogs, entry, open_audit_logs

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def logs(
    database_settings: DatabaseSettingsFor, postgres_server: PostgresServer, tmp_path: Path
) -> AsyncIterator[AuditLogs]:
    settings = await database_settings("meshwright_session")
    async with open_audit_logs(settings, postgres_server, tmp_path / "objects") as opened:
        yield opened


async def numbers(logs: AuditLogs, tenant_id: str) -> list[tuple[int, int, bool]]:
    """Return number, sequence and whether it is stored, of a tenant's checkpoints."""
    rows = await logs.query(
        "SELECT number, sequence, stored FROM audit_checkpoints WHERE tenant_id = $1"
        " ORDER BY number",
        tenant_id,
    )
    return [(row["number"], row["sequence"], row["stored"]) for row in rows]


@pytest.mark.promise("REC-05")
async def test_a_log_gets_a_checkpoint_when_it_is_time_or_when_it_has_grown(
    logs: AuditLogs,
) -> None:
    quiet, busy, idle = new_id(), new_id(), new_id()
    for tenant_id in (quiet, busy, idle):
        await logs.append(tenant_id, 1)
    assert await logs.checkpoint() == 3
    await logs.append(quiet, 9)
    await logs.append(busy, 10)
    assert (await logs.parts.checkpointer.round(seconds=3600, records=10)).signed == 1
    assert await numbers(logs, busy) == [(1, 1, True), (2, 11, True)]
    assert await numbers(logs, quiet) == [(1, 1, True)]
    assert (await logs.parts.checkpointer.round(seconds=0, records=10)).signed == 1
    assert await numbers(logs, quiet) == [(1, 1, True), (2, 10, True)]
    assert await numbers(logs, idle) == [(1, 1, True)]
    verdict = await logs.verify(quiet)
    assert (verdict.valid, verdict.checkpoint_count, verdict.checkpointed_sequence) == (True, 2, 10)


@pytest.mark.promise("REC-05")
async def test_what_a_crash_left_between_chain_signature_and_copy_is_made_up_for(
    logs: AuditLogs, tmp_path: Path
) -> None:
    """CP-34: the row without its copy is completed, records without a row are covered next."""
    tenant_id = new_id()
    await logs.append(tenant_id, 3)
    blocked = tmp_path / "blocked"
    async with open_objects(ObjectSettings(url=blocked.as_uri())) as away:
        (blocked / "tenants").write_text("in the way of every folder")
        dying = replace(logs, objects=away)
        with pytest.raises(ObjectStoreUnavailable):
            await dying.checkpoint()
    assert await numbers(logs, tenant_id) == [(1, 3, False)]
    assert (await logs.verify(tenant_id)).valid
    await logs.append(tenant_id, 2)
    assert await logs.checkpoint() == 1
    assert await numbers(logs, tenant_id) == [(1, 3, True), (2, 5, True)]
    assert (await logs.verify(tenant_id)).valid


@pytest.mark.promise("REC-05")
async def test_several_processes_make_one_series_of_checkpoints(logs: AuditLogs) -> None:
    tenants = [new_id() for _ in range(20)]
    for _ in range(2):
        for tenant_id in tenants:
            await logs.append(tenant_id, 2)
        signed = await asyncio.gather(*(logs.checkpoint() for _ in range(3)))
        assert sum(signed) == len(tenants)
    for tenant_id in tenants:
        assert await numbers(logs, tenant_id) == [(1, 2, True), (2, 4, True)]
        assert (await logs.verify(tenant_id)).valid


@pytest.mark.promise("REC-05")
async def test_a_log_that_was_set_back_does_not_overwrite_what_proves_it(logs: AuditLogs) -> None:
    """S-70: the database comes from an older backup, and goes on from there."""
    tenant_id = new_id()
    await logs.append(tenant_id, 3)
    await logs.checkpoint()
    await logs.append(tenant_id, 3)
    async with logs.as_superuser() as connection:
        await connection.execute("CREATE TABLE backup AS SELECT * FROM audit_heads")
        await logs.checkpoint()
        proof = await CheckpointObjects(logs.objects).text(tenant_id, 2)
        await connection.execute("SET session_replication_role = replica")
        await connection.execute("DELETE FROM audit_checkpoints WHERE number = 2")
        await connection.execute("DELETE FROM audit_heads")
        await connection.execute("INSERT INTO audit_heads SELECT * FROM backup")
    await logs.append(tenant_id, 1)
    done = await logs.parts.checkpointer.round(seconds=0, records=1)
    assert (done.signed, done.conflicts) == (1, [(tenant_id, 2)])
    assert await CheckpointObjects(logs.objects).text(tenant_id, 2) == proof
    verdict = await logs.verify(tenant_id)
    assert verdict.flaw is not None
    assert verdict.flaw.sequence == 4


async def divide_into_months(logs: AuditLogs, months: int) -> None:
    """Make months before this one, as if the platform had been running for so long."""
    async with logs.as_superuser() as connection:
        await connection.execute("SET ROLE meshwright_owner; SET timezone = 'UTC'")
        await connection.execute("DROP TABLE audit_records_earlier")
        await connection.execute(
            "SELECT add_partition('audit_records', 'earlier', NULL,"
            " date_trunc('month', now()) - make_interval(months => $1))",
            months,
        )
        await connection.execute(
            "SELECT add_partition('audit_records', to_char(m, 'YYYY_MM'), m, m + '1 month')"
            " FROM generate_series(date_trunc('month', now()) - make_interval(months => $1),"
            " date_trunc('month', now()) - interval '1 month', interval '1 month') m",
            months,
        )


async def recorded_over_months(logs: AuditLogs, tenant_id: str, *, signed: bool = True) -> None:
    """Record five things nine months ago, five a month ago and five now, each with a checkpoint."""
    now = datetime.now(UTC)
    for age in (270 * DAY, 30 * DAY, timedelta(minutes=1)):
        logs = replace(logs, clock=ManualClock(now - age + timedelta(seconds=30)))
        await logs.append(tenant_id, 5, since=now - age)
        if signed:
            await logs.checkpoint()


async def months(logs: AuditLogs) -> int:
    rows = await logs.query("SELECT month FROM months_of('audit_records') WHERE starts IS NOT NULL")
    return len(rows)


@pytest.mark.promise("REC-06")
async def test_old_months_go_and_the_rest_of_each_chain_verifies(logs: AuditLogs) -> None:
    await divide_into_months(logs, 12)
    old, young, unsigned = new_id(), new_id(), new_id()
    await recorded_over_months(logs, old)
    await logs.append(young, 3)
    before = await months(logs)
    await logs.parts.keeper.let_go()
    assert await months(logs) < before
    verdict = await logs.verify(old)
    assert (verdict.valid, verdict.record_count, verdict.first_sequence) == (True, 10, 6)
    assert [number for number, _, _ in await numbers(logs, old)] == [2, 3]
    assert await CheckpointObjects(logs.objects).numbers(old, 0, 10) == [2, 3]
    assert [row["events"] for row in await logs.query(
        "SELECT count(*) AS events FROM audit_events WHERE tenant_id = $1", old
    )] == [10]  # fmt: skip
    assert (await logs.verify(young)).record_count == 3
    # Told late of what happened long ago: it has a place.
    await logs.append(unsigned, 1, since=datetime.now(UTC) - 300 * DAY)
    await logs.append(old, 1)
    await logs.checkpoint()
    assert (await logs.verify(old)).valid
    assert (await logs.verify(unsigned)).valid


@pytest.mark.promise("REC-06")
async def test_a_dropped_beginning_without_its_anchor_is_detected(logs: AuditLogs) -> None:
    await divide_into_months(logs, 12)
    tenant_id = new_id()
    await recorded_over_months(logs, tenant_id)
    await logs.parts.keeper.let_go()
    assert (await logs.verify(tenant_id)).valid
    for statement, expected in (
        ("UPDATE audit_anchors SET document = replace(document, '\"sequence\":5', '\"sequence\":6')"
         ", sequence = 6", 1),
        ("UPDATE audit_anchors SET sequence = 5", 6),
        ("DELETE FROM audit_anchors", 1),
    ):  # fmt: skip
        await logs.query(statement)
        verdict = await logs.verify(tenant_id)
        assert verdict.flaw is not None, statement
        assert verdict.flaw.sequence == expected, statement


@pytest.mark.promise("REC-06")
async def test_records_that_only_look_old_or_are_not_proved_stay(logs: AuditLogs) -> None:
    """Whoever can write to the tables gets nothing dropped by writing older times into them."""
    await divide_into_months(logs, 12)
    backdated, unproved = new_id(), new_id()
    await logs.append(backdated, 5)
    await logs.checkpoint()
    await recorded_over_months(logs, unproved, signed=False)
    await logs.query("UPDATE audit_records SET filed_at = filed_at - interval '300 days'"
                     " WHERE tenant_id = $1", backdated)  # fmt: skip
    before = await months(logs)
    await logs.parts.keeper.let_go()
    assert await months(logs) == before
    rows = await logs.query("SELECT count(*) AS records FROM audit_records")
    assert rows[0]["records"] == 20
    verdict = await logs.verify(backdated)
    assert verdict.flaw is not None
    assert verdict.flaw.sequence == 1


@pytest.mark.promise("REC-06")
async def test_dropping_waits_for_nobody_and_nobody_for_it(logs: AuditLogs) -> None:
    assert await logs.parts.retention.drop_months() == 0
    await divide_into_months(logs, 12)
    tenant_id, writer = new_id(), new_id()
    await recorded_over_months(logs, tenant_id)
    retention = logs.parts.retention
    assert await retention.anchor() == 1
    async with unit_of_work(logs.database, writer) as connection:
        assert await add_to_chain(
            PostgresAuditChain(connection), entry(writer, 1, datetime.now(UTC))
        )
        assert await retention.drop_months() is None
    dropped = await retention.drop_months()
    assert dropped is not None
    assert dropped > 0
    assert (await logs.verify(writer)).valid
