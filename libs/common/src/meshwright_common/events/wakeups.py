"""Hearing about commits: NOTIFY sets an event for each topic. A hint: listeners poll as well."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Final

from meshwright_common.errors import Unavailable
from meshwright_common.events.outbox import CHANNEL
from meshwright_common.storage.postgres import Connection, Database, is_lost
from meshwright_common.telemetry.logging import get_logger

LISTEN_AGAIN_SECONDS: Final = 1.0

logger = get_logger(__name__)


@contextlib.asynccontextmanager
async def wake_ups(
    database: Database,
    woken: Mapping[str, asyncio.Event],
    *,
    opening: str = "",
    closing: str = "",
) -> AsyncIterator[None]:
    """Set the event of a topic whenever something may have been appended to it.

    Holds one connection, and a new one when it breaks; outages are waited out. `opening` and
    `closing` are statements that are run on it when it begins and ends to listen.
    """
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(_listen(database, woken, opening, closing))
        try:
            yield
        finally:
            listening.cancel()


async def _listen(
    database: Database, woken: Mapping[str, asyncio.Event], opening: str, closing: str
) -> None:
    while True:
        try:
            async with database.connection() as connection:
                if opening:
                    await connection.execute(opening)
                try:
                    await _hear(connection, woken)
                finally:
                    if closing and not is_lost(connection):
                        await connection.execute(closing)
        except Unavailable as error:
            logger.info("event_wake_ups_interrupted", error=str(error))
        await asyncio.sleep(LISTEN_AGAIN_SECONDS)


async def _hear(connection: Connection, woken: Mapping[str, asyncio.Event]) -> None:
    """Set the event of each topic that is appended to. Returns when the connection is lost."""
    lost = asyncio.Event()

    def on_notification(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        if isinstance(payload, str) and payload in woken:
            woken[payload].set()

    def on_termination(_connection: object) -> None:
        lost.set()

    connection.add_termination_listener(on_termination)
    await connection.add_listener(CHANNEL, on_notification)
    try:
        # What was committed before we listened made no sound.
        for topic in woken.values():
            topic.set()
        await lost.wait()
    finally:
        if not is_lost(connection):
            connection.remove_termination_listener(on_termination)
            await connection.remove_listener(CHANNEL, on_notification)
