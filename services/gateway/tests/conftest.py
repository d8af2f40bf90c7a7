"""Fixtures of the gateway's tests."""

from collections.abc import AsyncIterator

import pytest_asyncio

from services.gateway.tests.platform import Platform, running


@pytest_asyncio.fixture
async def platform() -> AsyncIterator[Platform]:
    """A gateway with the settings of production, on a free port."""
    async with running() as platform:
        yield platform
