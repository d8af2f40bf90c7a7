"""LISTEN: one connection that hears a channel, and a new one when it breaks.

What is announced meanwhile is not heard: listeners also poll, or can do without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from meshwright_common.errors import Unavailable
from meshwright_common.storage.postgres import Connection, Database, is_lost
from meshwright_common.telemetry.logging import get_logger

LISTEN_AGAIN_SECONDS: Final = 1.0

logger = get_logger(__name__)


async def listen(
    database: Database,
    channel: str,
    hear: Callable[[str], None],
    *,
    began: Callable[[], None] | None = None,
    opening: str = "",
    closing: str = "",
) -> None:
    """Call `hear` with each payload, until cancelled. `began` is called whenever it begins.

    `opening` and `closing` are statements for the connection, when it begins and ends to listen.
    """
    while True:
        try:
            async with database.connection() as connection:
                if opening:
                    await connection.execute(opening)
                try:
                    await _hear(connection, channel, hear, began)
                finally:
                    if closing and not is_lost(connection):
                        await connection.execute(closing)
        except Unavailable as error:
            logger.info("listening_interrupted", channel=channel, error=str(error))
        await asyncio.sleep(LISTEN_AGAIN_SECONDS)


async def _hear(
    connection: Connection,
    channel: str,
    hear: Callable[[str], None],
    began: Callable[[], None] | None,
) -> None:
    """Returns when the connection is lost."""
    lost = asyncio.Event()

    def on_notification(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        if isinstance(payload, str):
            hear(payload)

    def on_termination(_connection: object) -> None:
        lost.set()

    connection.add_termination_listener(on_termination)
    await connection.add_listener(channel, on_notification)
    try:
        if began is not None:
            began()
        await lost.wait()
    finally:
        if not is_lost(connection):
            connection.remove_termination_listener(on_termination)
            await connection.remove_listener(channel, on_notification)
