"""Every migration also runs on the oldest PostgreSQL that is served, as Debian packs it (15)."""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit

import asyncpg
import pytest

from meshwright_cli.engines.schema import migrate_all, prepare_database
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.bootstrap import (
    EVENTS_SCHEMA,
    OWNER_SERVICE,
    SERVICES_WITH_TABLES,
)
from meshwright_common.storage.postgres import open_database, schema_of
from meshwright_common.storage.tenancy import security_violations


@pytest.mark.asyncio
@pytest.mark.promise("STORE-07")
async def test_the_platform_migrates_without_pgvector_and_no_table_is_open(
    debian_postgres: str,
) -> None:
    """The arrangement of production, where vectors are elsewhere (R-21, R-31)."""
    server = urlsplit(debian_postgres)
    # Roles belong to the server, which others use, too: their password is the superuser's.
    settings = DatabaseSettings(
        url=f"postgresql://meshwright_{{service}}:{server.password}"
        f"@{server.hostname}:{server.port}/test_{secrets.token_hex(6)}"
    )
    assert server.password
    applied = await prepare_database(debian_postgres, settings, password=server.password)
    assert applied.keys() >= {EVENTS_SCHEMA, *map(schema_of, SERVICES_WITH_TABLES)}
    assert await migrate_all(settings) == {}
    for service in SERVICES_WITH_TABLES:
        async with open_database(settings, service) as database:
            await database.probe()
    owner = await asyncpg.connect(settings.url_for(OWNER_SERVICE))
    try:
        assert owner.get_server_version().major == 15
        assert not await owner.fetchval(
            "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'vector')"
        )
        assert await owner.fetchval("SELECT to_regclass('rag.passage_vectors')") is None
        schemas = [EVENTS_SCHEMA, *map(schema_of, SERVICES_WITH_TABLES)]
        assert await security_violations(owner, schemas) == []
    finally:
        await owner.close()
    superuser = await asyncpg.connect(debian_postgres)
    try:
        await superuser.execute(f"DROP DATABASE {urlsplit(settings.url).path[1:]} WITH (FORCE)")
    finally:
        await superuser.close()
