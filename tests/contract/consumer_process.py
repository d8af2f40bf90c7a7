"""A consumer that kills its own process at a given moment: python … DATABASE_URL NAME MOMENT."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence

from meshwright_common.events.consumer import Consumer
from meshwright_common.events.embedded import EmbeddedLog
from meshwright_common.events.envelope import Event
from meshwright_common.events.ports import Batch, EventLog, Subscription
from meshwright_common.events.topics import Topic
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.postgres import Connection, open_database


class DyingSubscription:
    """A subscription of any log; the process ends around its commit."""

    def __init__(self, inner: Subscription, moment: str) -> None:
        self._inner = inner
        self._moment = moment

    @contextlib.asynccontextmanager
    async def batch(self, most: int) -> AsyncIterator[Batch | None]:
        async with self._inner.batch(most) as batch:
            yield batch
            worked = batch is not None and bool(batch.deliveries)
            if worked and self._moment == "before_commit":
                os.kill(os.getpid(), signal.SIGKILL)
        if worked and self._moment == "after_commit":
            os.kill(os.getpid(), signal.SIGKILL)

    async def wait(self, seconds: float) -> None:
        await self._inner.wait(seconds)


class DyingLog:
    """Any log, its subscriptions dying."""

    def __init__(self, inner: EventLog, moment: str) -> None:
        self._inner = inner
        self._moment = moment

    @contextlib.asynccontextmanager
    async def subscribe(
        self, consumer: str, topics: Sequence[Topic]
    ) -> AsyncIterator[Mapping[Topic, Subscription]]:
        async with self._inner.subscribe(consumer, topics) as inner:
            yield {topic: DyingSubscription(one, self._moment) for topic, one in inner.items()}


async def main(url: str, name: str, moment: str) -> None:
    async def handle(connection: Connection, event: Event) -> None:
        await connection.execute(
            "INSERT INTO session.effects (tenant_id, event_id, partition_key, number)"
            " VALUES ($1, $2, $3, $4)",
            event.tenant_id,
            event.event_id,
            event.partition_key,
            event.data["number"],
        )
        if moment == "in_handler" and event.data["number"] == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    async with open_database(DatabaseSettings(url=url), "session") as database:
        log = DyingLog(EmbeddedLog(database), moment)
        await Consumer(name, [Topic.USAGE_STATS], handle, database, log=log).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
