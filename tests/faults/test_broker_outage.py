"""Kafka away for a minute under load: nobody who calls notices, and what waited arrives quickly."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

import httpx
import pytest

from meshwright_cli.engines.attach import database_of
from meshwright_common.storage.embedded.process import EngineThread
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.storage.tenancy import unscoped
from meshwright_common.testing.servers.kafka import KafkaServer
from meshwright_common.testing.waiting import eventually
from tests.platform_process import Platform, running_platform

AWAY_SECONDS: Final = 60.0
TURNS_PER_SECOND: Final = 8.0
CATCH_UP_FACTOR: Final = 5.0
BODY: Final = {"message": "Count.", "model": "sim-n3", "agent": "chat", "stream": False}


class Load:
    """Turns at a steady rate, each counted by the status of its answer."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.answers: list[int] = []

    async def run(self, seconds: float) -> None:
        """Begin a turn whenever one is due, whether or not earlier ones are answered."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(round(seconds * TURNS_PER_SECOND)):
                await asyncio.sleep(max(0, began + number / TURNS_PER_SECOND - time.monotonic()))
                group.create_task(self._turn())

    async def _turn(self) -> None:
        answer = await self._client.post("/api/v1/chat", json=BODY)
        self.answers.append(answer.status_code)


@pytest.mark.asyncio
@pytest.mark.promise("STORM-02")
@pytest.mark.timeout(240)
async def test_a_minute_without_broker_fails_no_call_and_is_caught_up_quickly(
    data_folder: Path, tmp_path: Path, provider_environment: dict[str, str]
) -> None:
    """E5, R-08, R-29: a Must show of the event backbone."""
    kafka, thread = KafkaServer(tmp_path / "kafka"), EngineThread()
    await thread.run(kafka.start)
    environment = {**provider_environment, **kafka.variables}
    try:
        with running_platform(data_folder, environment=environment) as platform:
            settings = database_of(data_folder)
            async with open_database(settings, "session") as database, client(platform) as http:
                await observe(kafka, thread, database, http)
    finally:
        kafka.stop()
        thread.close()


async def observe(
    kafka: KafkaServer, thread: EngineThread, database: Database, http: httpx.AsyncClient
) -> None:
    """Take the broker away for a minute of load, and watch how it is caught up."""
    load = Load(http)
    await load.run(2)

    async def caught_up() -> bool:
        return await waiting(database) == 0

    await eventually(caught_up, timeout_seconds=30)
    kafka.stop()
    await load.run(AWAY_SECONDS)
    backlog = await waiting(database)
    came_per_second = backlog / AWAY_SECONDS
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run(15))
        await thread.run(kafka.start)
        backlog = await waiting(database)
        began = time.monotonic()
        await eventually(caught_up, timeout_seconds=30)
        seconds = time.monotonic() - began
    assert set(load.answers) == {200}
    assert came_per_second > TURNS_PER_SECOND
    assert backlog / seconds >= CATCH_UP_FACTOR * came_per_second

    async def calls_are_billed() -> bool:
        usage = (await http.get("/api/v1/usage")).json()
        return len(load.answers) == sum(int(one["call_count"]) for one in usage["sums"])

    await eventually(calls_are_billed, timeout_seconds=30)


def client(platform: Platform) -> httpx.AsyncClient:
    """Return a client of the platform's first user."""
    headers = {"authorization": f"Bearer {platform.api_key}"}
    return httpx.AsyncClient(base_url=platform.url, headers=headers, timeout=30)


async def waiting(database: Database) -> int:
    """Return how many events are not yet at the broker."""
    async with unscoped(database) as connection:
        return int(await connection.fetchval("SELECT waiting FROM events.relay_backlog()"))
