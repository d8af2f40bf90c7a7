"""Fixtures of the contract suites."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from meshwright_common.events.kafka_topics import make_missing
from meshwright_common.settings import EventSettings
from meshwright_common.storage.postgres import open_database
from meshwright_common.testing.engines import DatabaseSettingsFor, execute_as_owner
from meshwright_common.testing.event_bench import EFFECTS, EventBench
from meshwright_common.testing.mesh import SUBSTRATES, Substrate

LOGS = ("embedded", "kafka")
PARTITIONS = 4


@pytest.fixture(params=SUBSTRATES)
def substrate(request: pytest.FixtureRequest) -> Substrate:
    """Every way in which a call reaches its servicer, one after the other."""
    chosen: Substrate = request.param
    return chosen


@pytest.fixture
def kafka_events(kafka_server: str) -> EventSettings:
    """Topics and groups of this test's own on the shared cluster."""
    return EventSettings(
        url=f"kafka://{kafka_server}",
        topic_prefix=f"test-{secrets.token_hex(6)}.",
        partitions=PARTITIONS,
    )


@pytest_asyncio.fixture(params=LOGS)
async def bench(
    request: pytest.FixtureRequest, database_settings: DatabaseSettingsFor
) -> AsyncIterator[EventBench]:
    """A bench on each event log there is, a relay at work where it needs one."""
    events = EventSettings()
    if request.param == "kafka":
        events = request.getfixturevalue("kafka_events")
        await make_missing(events)
    settings = await database_settings()
    await execute_as_owner(settings, EFFECTS)
    async with open_database(settings, "session", max_size=20) as database:
        made = EventBench(database, settings, events)
        async with made.relaying():
            yield made
