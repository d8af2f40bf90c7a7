"""Every migration also runs on the oldest PostgreSQL that is served, as Debian packs it (15)."""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit

import pytest

from meshwright_cli.engines.schema import migrate_all, prepare_database
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.bootstrap import SERVICES_WITH_TABLES
from meshwright_common.storage.postgres import open_database


@pytest.mark.asyncio
async def test_all_migrations_run_and_every_service_finds_its_schema(debian_postgres: str) -> None:
    server = urlsplit(debian_postgres)
    login = f"meshwright_{{service}}:{server.password}"
    database = f"meshwright_{secrets.token_hex(4)}"
    settings = DatabaseSettings(
        url=f"postgresql://{login}@{server.hostname}:{server.port}/{database}"
    )
    applied = await prepare_database(debian_postgres, settings, password=str(server.password))
    assert "events" in applied
    assert await migrate_all(settings) == {}
    for service in SERVICES_WITH_TABLES:
        async with open_database(settings, service) as opened:
            await opened.probe()
