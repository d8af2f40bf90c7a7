"""The fixture of this service's tests."""

from collections.abc import AsyncIterator

import pytest_asyncio

from meshwright_common.settings import RedisSettings
from meshwright_common.testing.engines import DatabaseSettingsFor, PostgresServer
from services.session.tests.world import World, open_world


@pytest_asyncio.fixture
async def world(
    database_settings: DatabaseSettingsFor,
    postgres_server: PostgresServer,
    redis_settings: RedisSettings,
) -> AsyncIterator[World]:
    """The service on a fresh database, called in this process with messages copied."""
    settings = await database_settings("meshwright_session")
    async with open_world(settings, postgres_server, redis_settings) as world:
        yield world
