"""The simulated provider, inside the test's event loop."""

from collections.abc import AsyncIterator

import pytest_asyncio

from bench.simulator_state import Simulator
from bench.upstream_simulator import simulator


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[Simulator]:
    async with simulator(record=True) as running:
        yield running
