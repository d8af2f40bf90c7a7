"""A relay in a process of its own: python … OPTIONS, one JSON object.

`database` and `events` are the settings' sections. With `dies_after` it kills itself when it has
published so many times, before the cursors move. It ends by SIGTERM after the pass under way.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meshwright_common.events.kafka_publisher import open_publisher
from meshwright_common.events.ports import EventPublisher, OutgoingEvent
from meshwright_common.events.relay import Relay
from meshwright_common.settings import DatabaseSettings, EventSettings
from meshwright_common.storage.postgres import open_database


@dataclass(slots=True)
class DyingPublisher:
    """Any publisher; the process ends when it has published for the last time."""

    inner: EventPublisher
    left: int

    async def publish(self, events: Sequence[OutgoingEvent]) -> None:
        await self.inner.publish(events)
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(options: Mapping[str, object]) -> None:
    settings = DatabaseSettings.model_validate(options["database"])
    events = EventSettings.model_validate(options["events"])
    async with (
        open_database(settings, "session") as database,
        open_publisher(events) as publisher,
    ):
        left = options.get("dies_after", 0)
        relay = Relay(database, DyingPublisher(publisher, int(str(left))))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, relay.stop)
        await relay.run()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
