"""Wakes those who wait for notifications: one connection of this process hears about commits."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

from meshwright_common.errors import Unavailable
from meshwright_common.storage.postgres import Connection, Database, is_lost
from meshwright_common.telemetry.logging import get_logger
from meshwright_session.adapters.postgres_notifications import CHANNEL

LISTEN_AGAIN_SECONDS: Final = 1.0

logger = get_logger(__name__)


class NotificationWakeUps:
    """`WakeUps` by LISTEN, while `run` runs; without it waiters just look now and then."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[str, set[asyncio.Event]] = {}

    @contextlib.contextmanager
    def hearing(self, tenant_id: str) -> Iterator[asyncio.Event]:
        woken = asyncio.Event()
        waiting = self._waiting.setdefault(tenant_id, set())
        waiting.add(woken)
        try:
            yield woken
        finally:
            waiting.discard(woken)
            if not waiting and self._waiting.get(tenant_id) is waiting:
                del self._waiting[tenant_id]

    async def run(self) -> None:
        """Hold one connection that listens, and a new one when it breaks, for ever."""
        while True:
            try:
                async with self._database.connection() as connection:
                    await self._hear(connection)
            except Unavailable as error:
                logger.info("notification_wake_ups_interrupted", error=str(error))
            await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    async def _hear(self, connection: Connection) -> None:
        """Wake who waits for the tenant of each announcement. Returns when the line is lost."""
        lost = asyncio.Event()

        def on_notification(_connection: object, _pid: int, _channel: str, payload: object) -> None:
            self._wake(str(payload))

        def on_termination(_connection: object) -> None:
            lost.set()

        connection.add_termination_listener(on_termination)
        await connection.add_listener(CHANNEL, on_notification)
        try:
            # What was committed before we listened made no sound.
            for tenant_id in tuple(self._waiting):
                self._wake(tenant_id)
            await lost.wait()
        finally:
            if not is_lost(connection):
                connection.remove_termination_listener(on_termination)
                await connection.remove_listener(CHANNEL, on_notification)

    def _wake(self, tenant_id: str) -> None:
        for woken in self._waiting.get(tenant_id, ()):
            woken.set()
