"""Wakes those who wait for notifications: one connection of this process hears about commits."""

import asyncio
import contextlib
from collections.abc import Iterator

from meshwright_common.storage.listening import listen
from meshwright_common.storage.postgres import Database
from meshwright_session.adapters.postgres_notifications import CHANNEL, called
from meshwright_session.domain.notification_models import Reader


class NotificationWakeUps:
    """`WakeUps` by LISTEN, while `run` runs; without it waiters just look now and then."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self.listening = asyncio.Event()
        """Set when it first hears."""

    @contextlib.contextmanager
    def hearing(self, reader: Reader) -> Iterator[asyncio.Event]:
        woken = asyncio.Event()
        calls = [called(reader.tenant_id, user_id) for user_id in reader.addressed_as]
        for call in calls:
            self._waiting.setdefault(call, set()).add(woken)
        try:
            yield woken
        finally:
            for call in calls:
                self._waiting[call].discard(woken)
                if not self._waiting[call]:
                    del self._waiting[call]

    async def run(self) -> None:
        """Hold one connection that listens, and a new one when it breaks, for ever."""
        await listen(self._database, CHANNEL, self._wake, began=self.listening.set)

    def _wake(self, call: str) -> None:
        for woken in self._waiting.get(call, ()):
            woken.set()
