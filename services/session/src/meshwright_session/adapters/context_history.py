"""Versions of contexts: the next one is written, what it replaces is kept, the oldest are dropped.

Every one of the last so many versions can be brought back; of those before them the first one of
each window of time in which the context changed, up to a number of windows and an age. Callers hold
the lock on the session's row.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from meshwright_common.storage.postgres import Connection


@dataclass(frozen=True, slots=True)
class ContextHistory:
    """How much of a context's past is kept."""

    versions: int = 20
    """The newest versions, all of which are kept."""
    windows: int = 100
    """Older versions: one a window, so many windows."""
    window_seconds: float = 600


@dataclass(frozen=True, slots=True)
class SealedContext:
    """A version as it is stored."""

    version: int
    schema_version: int
    data: bytes


async def write_context(
    connection: Connection,
    history: ContextHistory,
    tenant_id: str,
    session_id: str,
    written: SealedContext,
    moment: datetime,
) -> None:
    """Store a context's next version, and keep the one that it replaces as it is."""
    await connection.execute(
        _WRITE,
        tenant_id,
        session_id,
        written.version,
        written.schema_version,
        written.data,
        moment,
        history.window_seconds,
        history.versions,
        history.windows,
    )


_WRITE: Final = """
WITH replaced AS (
    UPDATE contexts
       SET last_version = $3 - 1, replace_time = $6,
           opens_window = NOT EXISTS (
               SELECT FROM contexts w
                WHERE w.tenant_id = $1 AND w.session_id = $2 AND w.opens_window
                  AND w.replace_time > $6::timestamptz - make_interval(secs => $7)
           )
     WHERE tenant_id = $1 AND session_id = $2 AND last_version IS NULL
    RETURNING version
), dropped AS (
    DELETE FROM contexts c
     WHERE c.tenant_id = $1 AND c.session_id = $2 AND c.last_version <= $3 - $8::bigint
       AND (
           NOT c.opens_window
           OR c.version <= (
               SELECT w.version FROM contexts w
                WHERE w.tenant_id = $1 AND w.session_id = $2 AND w.opens_window
                ORDER BY w.version DESC
               OFFSET $9 LIMIT 1
           )
       )
)
INSERT INTO contexts (tenant_id, session_id, version, schema_version, data, update_time, is_first)
SELECT $1, $2, $3, $4, $5, $6, NOT EXISTS (SELECT FROM replaced)
"""
