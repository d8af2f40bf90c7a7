"""The fixtures of this service's tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from meshwright_common.settings import RedisSettings
from meshwright_common.testing.engines import DatabaseSettingsFor
from services.rag.tests.world import World, open_world


@pytest_asyncio.fixture
async def world(database_settings: DatabaseSettingsFor, tmp_path: Path) -> AsyncIterator[World]:
    """The service with its workers, on a fresh database."""
    async with open_world(await database_settings("meshwright_rag"), tmp_path) as world:
        yield world


@pytest_asyncio.fixture
async def quality_world(
    database_settings: DatabaseSettingsFor, redis_settings: RedisSettings, tmp_path: Path
) -> AsyncIterator[World]:
    """The service with the real model-router and its built-in embeddings."""
    settings = await database_settings("meshwright_rag", "meshwright_model_router")
    async with open_world(settings, tmp_path, model_redis=redis_settings) as world:
        yield world


@pytest_asyncio.fixture
async def idle_world(
    database_settings: DatabaseSettingsFor, tmp_path: Path
) -> AsyncIterator[World]:
    """The service without its workers: nothing is indexed before `start_work`."""
    settings = await database_settings("meshwright_rag")
    async with open_world(settings, tmp_path, working=False) as world:
        yield world
