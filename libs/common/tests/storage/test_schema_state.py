"""A start on a database that is up to date finds that out by one question."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.bootstrap import OWNER_SERVICE, bootstrap
from meshwright_common.storage.migrations import migrate, migrate_events
from meshwright_common.storage.schema_state import is_current
from meshwright_common.testing.engines import PostgresServer, execute_as_owner

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def migrated(postgres_server: PostgresServer) -> AsyncIterator[DatabaseSettings]:
    """A database with the event log and chat's tables."""
    name = f"test_{secrets.token_hex(6)}"
    settings = postgres_server.settings_of(name)
    owner = settings.url_for(OWNER_SERVICE)
    await bootstrap(postgres_server.superuser_url, password=postgres_server.password, database=name)
    await migrate_events(owner)
    await migrate(owner, "chat", "meshwright_chat")
    yield settings
    await postgres_server.drop(name)


async def test_a_migrated_database_is_current(migrated: DatabaseSettings) -> None:
    assert await is_current(migrated.url_for(OWNER_SERVICE), ["chat"])


async def test_a_service_that_was_never_migrated_is_not_current(migrated: DatabaseSettings) -> None:
    assert not await is_current(migrated.url_for(OWNER_SERVICE), ["chat", "session"])


async def test_a_database_that_is_not_there_is_not_current(
    postgres_server: PostgresServer,
) -> None:
    absent = postgres_server.settings_of("absent")
    assert not await is_current(absent.url_for(OWNER_SERVICE), ["chat"])


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE chat.schema_migrations SET sha256 = 'other'",
        "DELETE FROM events.schema_migrations WHERE name LIKE '0002%'",
        "INSERT INTO chat.schema_migrations (name, sha256) VALUES ('9999_newer.sql', 'x')",
        "DO $$ BEGIN EXECUTE format('COMMENT ON DATABASE %I IS ''older''', current_database());"
        " END $$",
    ],
)
async def test_whatever_differs_from_this_version_is_looked_at(
    migrated: DatabaseSettings, change: str
) -> None:
    await execute_as_owner(migrated, change)
    assert not await is_current(migrated.url_for(OWNER_SERVICE), ["chat"])
