"""How long the log, the memory of what was handled and dead letters are kept."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from meshwright_common.errors import DeadlineExceeded, Unavailable
from meshwright_common.events.topics import retentions
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unscoped
from meshwright_common.telemetry.logging import get_logger

EVERY_SECONDS: Final = 3600.0
BATCH: Final = 2000
"""Rows deleted in one transaction: small enough to hold up nobody."""
DAYS_AHEAD: Final = 3
"""Partitions made before their day: a weekend without this work does no harm."""

logger = get_logger(__name__)


async def make_days(database: Database) -> int:
    """Make the outbox's partitions of today and the next days; return how many were missing.

    Without one, rows go to the default partition and are moved when theirs is made.
    """
    async with unscoped(database) as connection:
        made: int = await connection.fetchval("SELECT events.make_days($1)", DAYS_AHEAD)
    return made


async def prune(database: Database, *, relayed: bool = False) -> int:
    """Delete what has expired; return how many events.

    With the embedded log an event goes after its topic's retention, once all consumers have passed
    it. When it is `relayed` to a broker, whole days go that are older than 24 hours and relayed.
    """
    deleted = 0
    for topic, kept in retentions().items():
        if not relayed:
            deleted += await _all_of(_PRUNE, database, topic, kept)
        await _all_of(_FORGET, database, topic, kept)
    async with unscoped(database) as connection:
        await connection.fetchval("SELECT events.drop_days($1)", relayed)
    return deleted


async def _all_of(statement: str, database: Database, topic: str, kept: timedelta) -> int:
    total, pruned = 0, BATCH
    while pruned >= BATCH:
        async with unscoped(database) as connection:
            pruned = await connection.fetchval(statement, topic, kept, BATCH)
        total += pruned
    return total


async def keep_within_retention(database: Database, *, relayed: bool = False) -> None:
    """Make days and prune every hour, for ever: a background task of one service.

    Waits out an absent store.
    """
    while True:
        try:
            await make_days(database)
            if deleted := await prune(database, relayed=relayed):
                logger.info("events_pruned", count=deleted)
        except (Unavailable, DeadlineExceeded) as error:
            logger.warning("events_not_pruned", error=str(error))
        await asyncio.sleep(EVERY_SECONDS)


_PRUNE: Final = "SELECT events.prune_log($1, $2, $3)"
_FORGET: Final = "SELECT events.forget($1, $2, $3)"
