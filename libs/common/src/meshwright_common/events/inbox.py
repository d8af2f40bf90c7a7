"""The memory of what was handled: one row per consumer and event, in the effect's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from meshwright_common.storage.postgres import Connection


async def admit(
    connection: Connection, *, consumer: str, topic: str, event_ids: Sequence[str]
) -> set[str]:
    """Note `event_ids` as handled; return those that were not handled before.

    If the transaction rolls back, so does the note.
    """
    rows = await connection.fetch(_ADMIT, consumer, topic, list(event_ids))
    return {str(row["event_id"]) for row in rows}


_ADMIT: Final = """
INSERT INTO events.inbox (consumer, topic, event_id)
SELECT $1, $2, unnest($3::uuid[])
ON CONFLICT (consumer, event_id) DO NOTHING
RETURNING event_id
"""
