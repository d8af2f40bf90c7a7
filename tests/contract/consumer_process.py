"""A consumer in a process of its own: python … OPTIONS, one JSON object.

`database` and `events` are the settings' sections, `consumer` its name. `moment` is when it kills
itself: "in_handler" (at the event number 5), "before_commit", "after_commit", or "" for never. It
ends by SIGTERM after the batch in hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from meshwright_common.events.consumer import Consumer
from meshwright_common.events.envelope import Event
from meshwright_common.events.ports import Batch, EventLog, Subscription
from meshwright_common.events.topics import Topic
from meshwright_common.settings import DatabaseSettings, EventSettings
from meshwright_common.storage.postgres import Connection, open_database
from meshwright_common.testing.event_bench import (
    QUICK,
    TOPIC,
    open_log,
    write_effect,
    write_effects,
)


@dataclass(frozen=True, slots=True)
class DyingSubscription:
    """A subscription of any log; the process ends around its commit."""

    inner: Subscription
    moment: str

    @contextlib.asynccontextmanager
    async def batch(self, most: int) -> AsyncIterator[Batch | None]:
        async with self.inner.batch(most) as batch:
            yield batch
            worked = batch is not None and bool(batch.deliveries)
            if worked and self.moment == "before_commit":
                os.kill(os.getpid(), signal.SIGKILL)
        if worked and self.moment == "after_commit":
            os.kill(os.getpid(), signal.SIGKILL)

    async def wait(self, seconds: float) -> None:
        await self.inner.wait(seconds)

    async def lag(self) -> int:
        return await self.inner.lag()


@dataclass(frozen=True, slots=True)
class DyingLog:
    """Any log, its subscriptions dying."""

    inner: EventLog
    moment: str

    @contextlib.asynccontextmanager
    async def subscribe(
        self, consumer: str, topics: Sequence[Topic]
    ) -> AsyncIterator[Mapping[Topic, Subscription]]:
        async with self.inner.subscribe(consumer, topics) as inner:
            yield {topic: DyingSubscription(one, self.moment) for topic, one in inner.items()}


async def main(options: Mapping[str, object]) -> None:
    moment = str(options["moment"])

    async def handle(connection: Connection, event: Event) -> None:
        await write_effect(connection, event)
        if moment == "in_handler" and event.data["number"] == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = DatabaseSettings.model_validate(options["database"])
    async with open_database(settings, "session") as database:
        inner = open_log(EventSettings.model_validate(options["events"]), database)
        consumer = Consumer(
            str(options["consumer"]),
            [TOPIC],
            handle,
            database,
            batch_handler=None if moment == "in_handler" else write_effects,
            log=DyingLog(inner, moment),
            policy=QUICK,
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, consumer.stop)
        await consumer.run()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
