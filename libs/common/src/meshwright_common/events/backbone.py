"""The event backbone of the settings: where consumers read, and what carries events there."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Final

from meshwright_common.events.embedded import EmbeddedLog
from meshwright_common.events.kafka_log import KafkaLog
from meshwright_common.events.kafka_publisher import open_publisher
from meshwright_common.events.ports import EventLog
from meshwright_common.events.relay import Relay
from meshwright_common.settings import EventSettings
from meshwright_common.storage.postgres import Database

EMBEDDED: Final = "embedded:"


def is_relayed(settings: EventSettings) -> bool:
    """Return whether events are carried to a broker; otherwise the outbox itself is the log."""
    return settings.url != EMBEDDED


def event_log(settings: EventSettings, database: Database) -> EventLog:
    """Return the log that consumers with effects in `database` read. Connects when first used."""
    if not is_relayed(settings):
        return EmbeddedLog(database)
    _silence_driver()
    return KafkaLog(settings, database)


@contextlib.asynccontextmanager
async def open_relay(settings: EventSettings, database: Database) -> AsyncIterator[Relay | None]:
    """Give the relay of `database`'s outbox; None when the outbox itself is the log."""
    if not is_relayed(settings):
        yield None
        return
    _silence_driver()
    async with open_publisher(settings) as publisher:
        yield Relay(database, publisher)


def _silence_driver() -> None:
    """It writes several lines for each of its retries; what they mean is told by us, once."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
