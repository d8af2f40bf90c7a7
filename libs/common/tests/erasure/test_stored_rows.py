"""Rows that can be forgotten: all of the subject's, and nobody else's (S12, I8)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio

from meshwright_common.context import MESH_INTERNAL, bind, service_context
from meshwright_common.erasure.rows import AnonymousRows, StoredRows
from meshwright_common.erasure.stored import BATCH, Subject, erase_stored
from meshwright_common.ids import new_id
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.engines import DatabaseSettingsFor, execute_as_owner

pytestmark = pytest.mark.asyncio

# Two partitions, in which rows have the same places.
TABLES: Final = """
    CREATE TABLE session.notes (
        tenant_id uuid NOT NULL,
        id uuid NOT NULL,
        year integer NOT NULL,
        writer text NOT NULL,
        PRIMARY KEY (tenant_id, year, id)
    ) PARTITION BY RANGE (year);
    SELECT events.protect('session.notes');
    CREATE TABLE session.notes_1 PARTITION OF session.notes FOR VALUES FROM (1) TO (2);
    CREATE TABLE session.notes_2 PARTITION OF session.notes FOR VALUES FROM (2) TO (3);
    SELECT events.protect('session.notes_1');
    SELECT events.protect('session.notes_2');
"""


@pytest_asyncio.fixture
async def database(database_settings: DatabaseSettingsFor) -> AsyncIterator[Database]:
    settings = await database_settings()
    await execute_as_owner(settings, TABLES)
    async with open_database(settings, "session", max_size=2) as opened:
        yield opened


async def write(database: Database, tenant: str, writer: str, count: int) -> None:
    async with unit_of_work(database, tenant) as connection:
        await connection.execute(
            "INSERT INTO session.notes (tenant_id, id, year, writer)"
            " SELECT $1, gen_random_uuid(), 1 + n % 2, $2 FROM generate_series(1, $3) AS n",
            tenant,
            writer,
            count,
        )


async def writers(database: Database, tenant: str) -> dict[str, int]:
    async with unit_of_work(database, tenant) as connection:
        rows = await connection.fetch(
            "SELECT writer, count(*) FROM session.notes WHERE tenant_id = $1 GROUP BY 1", tenant
        )
    return {row["writer"]: row["count"] for row in rows}


async def test_a_users_rows_go_and_all_others_stay(database: Database) -> None:
    tenant, other, user, colleague = (new_id() for _ in range(4))
    await write(database, tenant, user, BATCH + 500)
    await write(database, tenant, colleague, 7)
    await write(database, other, user, 3)
    notes = StoredRows(database, "session.notes", "writer = $2")
    [found] = await erase_stored([notes], Subject(tenant, user))
    assert (found.store, found.removed, found.remaining) == ("session.notes", BATCH + 500, 0)
    assert await writers(database, tenant) == {colleague: 7}
    assert await writers(database, other) == {user: 3}


async def test_a_tenants_rows_go_but_those_that_it_leaves_out(database: Database) -> None:
    tenant, other = new_id(), new_id()
    await write(database, tenant, "kept", 2)
    await write(database, tenant, "gone", 4)
    await write(database, other, "gone", 1)
    notes = StoredRows(database, "session.notes", of_tenant="writer <> 'kept'")
    [found] = await erase_stored([notes], Subject(tenant))
    assert (found.removed, found.remaining) == (4, 0)
    assert await writers(database, tenant) == {"kept": 2}
    assert await writers(database, other) == {"gone": 1}


async def test_rows_of_no_user_are_left_alone_when_a_user_goes(database: Database) -> None:
    tenant, user = new_id(), new_id()
    await write(database, tenant, user, 2)
    [found] = await erase_stored([StoredRows(database, "session.notes")], Subject(tenant, user))
    assert (found.removed, found.remaining) == (0, 0)
    assert await writers(database, tenant) == {user: 2}


async def test_amounts_lose_their_user_and_go_with_their_tenant(database: Database) -> None:
    tenant, user = new_id(), new_id()
    await write(database, tenant, user, BATCH + 1)
    notes = AnonymousRows(database, "session.notes", "writer = $2", "writer = 'nobody'")
    [found] = await erase_stored([notes], Subject(tenant, user))
    assert (found.removed, found.remaining) == (BATCH + 1, 0)
    assert await writers(database, tenant) == {"nobody": BATCH + 1}
    [found] = await erase_stored([notes], Subject(tenant))
    assert (found.removed, found.remaining) == (BATCH + 1, 0)


async def test_what_a_call_has_no_time_for_is_found_by_its_look(database: Database) -> None:
    tenant, user = new_id(), new_id()
    await write(database, tenant, user, BATCH + 500)
    notes = StoredRows(database, "session.notes", "writer = $2")
    hurried = service_context("session", tenant, (MESH_INTERNAL,), timeout_seconds=4)
    with bind(hurried):
        [found] = await erase_stored([notes], Subject(tenant, user))
    assert (found.removed, found.remaining) == (BATCH, 500)
