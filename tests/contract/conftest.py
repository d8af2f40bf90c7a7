"""Fixtures of the contract suites."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from meshwright_common.events.embedded import EmbeddedLog
from meshwright_common.events.ports import EventLog
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.testing.engines import DatabaseSettingsFor, execute_as_owner
from meshwright_common.testing.event_bench import EFFECTS, EventBench
from meshwright_common.testing.mesh import SUBSTRATES, Substrate

LOGS: dict[str, Callable[[Database], EventLog]] = {"embedded": EmbeddedLog}


@pytest.fixture(params=SUBSTRATES)
def substrate(request: pytest.FixtureRequest) -> Substrate:
    """Every way in which a call reaches its servicer, one after the other."""
    chosen: Substrate = request.param
    return chosen


@pytest_asyncio.fixture(params=sorted(LOGS))
async def bench(
    request: pytest.FixtureRequest, database_settings: DatabaseSettingsFor
) -> AsyncIterator[EventBench]:
    """A bench on each event log there is; a broker joins by one more entry in `LOGS`."""
    settings = await database_settings()
    await execute_as_owner(settings, EFFECTS)
    async with open_database(settings, "session", max_size=20) as database:
        yield EventBench(database, settings, LOGS[request.param])
