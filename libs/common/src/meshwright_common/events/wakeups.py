"""Hearing about commits: NOTIFY sets an event for each topic. A hint: listeners poll as well."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

from meshwright_common.events.outbox import CHANNEL
from meshwright_common.storage.listening import listen
from meshwright_common.storage.postgres import Database


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
    `closing` are as for `listen`.
    """

    def wake(topic: str) -> None:
        if topic in woken:
            woken[topic].set()

    def wake_all() -> None:
        # What was committed before we listened made no sound.
        for topic in woken.values():
            topic.set()

    listening = listen(database, CHANNEL, wake, began=wake_all, opening=opening, closing=closing)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(listening)
        try:
            yield
        finally:
            task.cancel()
