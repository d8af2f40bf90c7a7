"""One transaction, one tenant (reliability.md C1, S-03 to S-07)."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from meshwright_common.ids import new_id
from meshwright_common.storage.bootstrap import OWNER_SERVICE
from meshwright_common.storage.postgres import (
    Connection,
    Database,
    open_database,
    prepare_connection,
)
from meshwright_common.storage.tenancy import (
    unit_of_work,
    unscoped,
)
from meshwright_common.testing.engines import DatabaseSettingsFor, PostgresServer

pytestmark = pytest.mark.asyncio

NOTES = """
    CREATE TABLE session.notes (
        tenant_id uuid NOT NULL,
        id uuid NOT NULL,
        body text NOT NULL,
        PRIMARY KEY (tenant_id, id)
    );
    ALTER TABLE session.notes ENABLE ROW LEVEL SECURITY;
    ALTER TABLE session.notes FORCE ROW LEVEL SECURITY;
    CREATE POLICY tenant_isolation ON session.notes
        USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
        WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
    CREATE POLICY owner_access ON session.notes TO meshwright_owner
        USING (true) WITH CHECK (true);
"""
INSERT = "INSERT INTO session.notes (tenant_id, id, body) VALUES ($1, $2, $3)"
FORGETFUL = "SELECT body FROM session.notes ORDER BY body"


@pytest_asyncio.fixture
async def owner(
    database_settings: DatabaseSettingsFor,
) -> AsyncIterator[Connection]:
    settings = await database_settings()
    connection = await asyncpg.connect(settings.url_for(OWNER_SERVICE))
    await prepare_connection(connection)
    await connection.execute(NOTES)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def database(owner: Connection, postgres_server: PostgresServer) -> AsyncIterator[Database]:
    name = await owner.fetchval("SELECT current_database()")
    settings = postgres_server.settings_of(name)
    async with open_database(settings, "session", max_size=2) as opened:
        yield opened


async def test_a_query_that_forgets_the_tenant_sees_only_its_own_rows(database: Database) -> None:
    """S-03."""
    one, other = new_id(), new_id()
    for tenant in (one, other):
        async with unit_of_work(database, tenant) as connection:
            await connection.execute(INSERT, tenant, new_id(), f"of {tenant}")
    async with unit_of_work(database, one) as connection:
        assert [row["body"] for row in await connection.fetch(FORGETFUL)] == [f"of {one}"]
    async with unscoped(database) as connection:
        assert await connection.fetch(FORGETFUL) == []
