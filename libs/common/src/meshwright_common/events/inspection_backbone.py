"""Opens the log that the settings name, for operators to look at."""

from __future__ import annotations

import logging

from meshwright_common.events.backbone import is_relayed
from meshwright_common.events.inspection import LogInspection
from meshwright_common.events.inspection_embedded import EmbeddedInspection
from meshwright_common.events.inspection_kafka import KafkaInspection
from meshwright_common.settings import EventSettings
from meshwright_common.storage.postgres import Database


def inspection_of(settings: EventSettings, database: Database) -> LogInspection:
    """Return the log of the settings, beside `database`. Connects when first used."""
    if not is_relayed(settings):
        return EmbeddedInspection(database)
    # What the driver says of each of its retries, we say once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    return KafkaInspection(settings)
