"""Windows read from PostgreSQL: only what is newer than what is known, when that is possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from meshwright_common.encryption import TenantKeys
from meshwright_common.storage.postgres import Connection, Record
from meshwright_session.adapters import sealed_messages
from meshwright_session.adapters.context_cells import open_context
from meshwright_session.domain.context_schema import ContextSchema
from meshwright_session.domain.errors import SessionArchived, SessionNotFound
from meshwright_session.domain.models import Context, Owner, StoredMessage
from meshwright_session.domain.windows import WINDOW_MESSAGES, Memory, Read, Stamp, Window

WINDOW_BYTES: Final = 4 * 1024 * 1024
"""Content that is read into a window beyond what was asked for."""
MOST_NEWER: Final = 100
"""Messages that are fetched behind a window; when there are more it is read anew."""


class Cell(Protocol):
    """Columns version, schema_version and data of a row of `contexts`, or of a copy of one."""

    def __getitem__(self, column: str, /) -> Any: ...


def stamp_of(row: Record) -> Stamp:
    """Return the stamp of a session's row."""
    return Stamp(row["message_count"], row["context_version"], row["update_time"])


class WindowRows:
    """Reads for one piece of work: in the transaction of `connection`, with the tenant's keys."""

    def __init__(
        self,
        connection: Connection,
        keys: TenantKeys,
        schema: ContextSchema,
        owner: Owner,
        session_id: str,
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._schema = schema
        self._owner = owner
        self._session_id = session_id

    async def window(
        self, stamp: Stamp, row: Record, known: Window | None, most: int
    ) -> tuple[Window, Read]:
        """Return the window of `stamp`, which `row` of the session, locked, was read with.

        It has at least the newest `most` messages. Raises: ContextSchemaUnknown.
        """
        if known is not None and known.stamp.context_version == stamp.context_version:
            memory = known.memory
        else:
            found = await self._connection.fetchrow(
                CONTEXT, self._owner.tenant_id, self._session_id
            )
            memory = self._memory(stamp, row, found)
        return await self._complete(stamp, row, known, most, memory)

    async def current(self, known: Window | None, most: int) -> tuple[Window, Read]:
        """Return the window as of now, without a lock.

        Raises: SessionNotFound, SessionArchived, ContextSchemaUnknown.
        """
        row = None
        if known is not None:
            row = await self._session_row(_STAMP)
            stamp = stamp_of(row)
            if stamp == known.stamp:
                return known, Read.NOTHING
            if stamp.context_version == known.stamp.context_version:
                return await self._complete(stamp, row, known, most, known.memory)
        # Stamp and context of one statement belong together; messages never change behind a stamp.
        row = await self._session_row(STAMP_AND_CONTEXT)
        stamp = stamp_of(row)
        return await self._complete(stamp, row, known, most, self._memory(stamp, row, row))

    async def up_to(
        self, window: Window, row: Record, sequence: int, most: int
    ) -> Sequence[StoredMessage]:
        """Return the `most` messages that end with `sequence`: from the window if it has them."""
        messages = window.up_to(sequence, most)
        if messages is not None:
            return messages
        rows = await self._connection.fetch(
            _BETWEEN,
            self._owner.tenant_id,
            self._session_id,
            row["create_time"],
            window.stamp.update_time,
            sequence - most + 1,
            sequence,
        )
        return [sealed_messages.opened(self._keys, found) for found in rows]

    async def _session_row(self, query: str) -> Record:
        row = await self._connection.fetchrow(
            query, self._owner.tenant_id, self._session_id, self._owner.user_id
        )
        if row is None:
            raise SessionNotFound
        if row["archived"]:
            raise SessionArchived
        return row

    async def _complete(
        self, stamp: Stamp, row: Record, known: Window | None, most: int, memory: Memory
    ) -> tuple[Window, Read]:
        newer = None if known is None else await self._newer(stamp, known)
        if known is not None and newer is not None:
            return known.moved_on(stamp, newer).with_context(memory), Read.NEWER
        rows = await self._connection.fetch(
            _NEWEST,
            self._owner.tenant_id,
            self._session_id,
            row["create_time"],
            stamp.update_time,
            stamp.message_count,
            WINDOW_MESSAGES,
            most,
            WINDOW_BYTES,
        )
        messages = tuple(sealed_messages.opened(self._keys, found) for found in rows)
        reaches_back = not rows or rows[0]["older"] == 0
        window = Window(stamp, messages, memory.context, reaches_back=reaches_back)
        return window.with_context(memory), Read.ALL

    async def _newer(self, stamp: Stamp, known: Window) -> Sequence[StoredMessage] | None:
        """Return what came behind a window; None when it is not the beginning of what is there.

        The last message it has is read again: when the database lost that one in a crash, another
        has its sequence by now. Those before it cannot be lost without it.
        """
        count = known.stamp.message_count
        if not known.messages or not count <= stamp.message_count <= count + MOST_NEWER:
            return None
        last = known.messages[-1]
        rows = await self._connection.fetch(
            _BETWEEN,
            self._owner.tenant_id,
            self._session_id,
            last.create_time,
            stamp.update_time,
            last.sequence,
            stamp.message_count,
        )
        if not rows or rows[0]["message_id"] != last.message_id:
            return None
        return [sealed_messages.opened(self._keys, row) for row in rows[1:]]

    def _memory(self, stamp: Stamp, row: Record, found: Record | None) -> Memory:
        data, size = read_context(self._keys, self._schema, self._session_id, found)
        context = Context(self._session_id, stamp.context_version, data, row["context_time"])
        written = found["version"] if found is not None else None
        return Memory(context, written or 0, size)


def read_context(
    keys: TenantKeys, schema: ContextSchema, session_id: str, row: Cell | None
) -> tuple[dict[str, object], int]:
    """Return the data of a row of `contexts` in the current schema, and its size as stored.

    Raises: ContextSchemaUnknown, SealBroken.
    """
    if row is None or row["data"] is None:
        return {}, 0
    schema.check(row["schema_version"])
    written = open_context(keys, session_id, row["version"], row["data"])
    return dict(schema.read(written, row["schema_version"])), len(row["data"])


CONTEXT: Final = """
SELECT version, schema_version, data
  FROM contexts
 WHERE tenant_id = $1 AND session_id = $2 AND last_version IS NULL
"""

_STAMP: Final = """
SELECT message_count, context_version, update_time, context_time, create_time, archived
  FROM sessions
 WHERE tenant_id = $1 AND session_id = $2 AND user_id = $3
"""

STAMP_AND_CONTEXT: Final = """
SELECT s.message_count, s.context_version, s.update_time, s.context_time, s.create_time,
       s.archived, c.version, c.schema_version, c.data
  FROM sessions s
  LEFT JOIN contexts c
    ON c.tenant_id = s.tenant_id AND c.session_id = s.session_id AND c.last_version IS NULL
 WHERE s.tenant_id = $1 AND s.session_id = $2 AND s.user_id = $3
"""

# The newest ones in any case, older ones as long as all together are not too large. `older` says
# whether the oldest of them has others before it.
_NEWEST: Final = """
SELECT w.*, (w.last - w.place)::bigint AS older
  FROM (
      SELECT m.*, row_number() OVER newest AS place, count(*) OVER () AS last,
             sum(octet_length(m.content)) OVER newest AS bytes
        FROM (
            SELECT session_id, create_time, sequence, message_id, turn_id, content
              FROM messages
             WHERE tenant_id = $1 AND session_id = $2
               AND create_time BETWEEN $3 AND $4 AND sequence BETWEEN $5::bigint - $6::bigint AND $5
        ) AS m
      WINDOW newest AS (ORDER BY m.sequence DESC)
  ) AS w
 WHERE w.place <= $6 AND (w.place <= $7 OR w.bytes <= $8)
 ORDER BY w.sequence
"""

_BETWEEN: Final = """
SELECT session_id, create_time, sequence, message_id, turn_id, content
  FROM messages
 WHERE tenant_id = $1 AND session_id = $2
   AND create_time BETWEEN $3 AND $4 AND sequence BETWEEN $5 AND $6
 ORDER BY sequence
"""
