"""Fixtures of the budgets' tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from meshwright_common.settings import RedisSettings
from meshwright_common.storage.postgres import open_database
from meshwright_common.storage.redis import open_redis
from meshwright_common.testing.engines import DatabaseSettingsFor
from meshwright_model_router.domain.budget_rules import Limits
from meshwright_model_router.limit_settings import LimitSettings
from tests.budget_world import AgreedLimits, World

LEASE_SECONDS = 1.0


@pytest_asyncio.fixture
async def world(
    database_settings: DatabaseSettingsFor, redis_settings: RedisSettings
) -> AsyncIterator[World]:
    """Stores without replicas yet."""
    settings = await database_settings("meshwright_model_router")
    async with (
        open_database(settings, "model-router") as database,
        open_redis(redis_settings) as redis,
    ):
        yield World(
            *(database, redis, AgreedLimits(), settings, redis_settings),
            LimitSettings(lease_seconds=LEASE_SECONDS, prompt_margin=1, least_output_tokens=10),
        )


@pytest_asyncio.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Where replicas are started; closed at the end."""
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
def tokens_a_day(world: World) -> int:
    """The tenant's limit."""
    world.agreed.limits = Limits("starter", tenant_tokens=1000)
    return 1000
