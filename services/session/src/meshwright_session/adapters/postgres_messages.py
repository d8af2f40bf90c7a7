"""Messages in PostgreSQL. Each use case is one statement on the usual way.

The lock on the session's row gives out sequences, so they have no gaps, and a page is a range of
them. `moment` never goes back within a session, so time and sequence order messages alike, and a
page is read from the newest months without a look at the others.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from meshwright_common.encryption import KeyRing
from meshwright_common.storage.gathering import Gathering
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_session.adapters import sealed_messages
from meshwright_session.adapters.postgres_sessions import END_OF_TIME, LAST_ID
from meshwright_session.adapters.requests import ANONYMOUS, made_before
from meshwright_session.domain.errors import SessionArchived, SessionNotFound
from meshwright_session.domain.message_search import FoundPosition, MessageQuery
from meshwright_session.domain.models import (
    NewMessage,
    Owner,
    Request,
    StoredMessage,
)
from meshwright_session.domain.ports import MessagePosition

_APPEND_OPERATION: Final = "AppendMessages"
_BEGINNING_OF_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)


class PostgresMessages:
    """`MessageStore` on the tables `messages` and `turn_commits`."""

    def __init__(self, database: Database, ring: KeyRing) -> None:
        self._gathering = Gathering(database)
        self._ring = ring

    async def append(
        self,
        owner: Owner,
        session_id: str,
        messages: Sequence[NewMessage],
        *,
        turn_id: str | None,
        request: Request | None,
    ) -> Sequence[StoredMessage]:
        asked = request or ANONYMOUS
        columns = await sealed_messages.sealed(self._ring, owner, session_id, messages)
        keys = await self._ring.keys_of(owner.tenant_id)

        async def append(connection: Connection) -> Sequence[StoredMessage]:
            found = await connection.fetchrow(
                _APPEND,
                owner.tenant_id,
                session_id,
                owner.user_id,
                columns.ids,
                columns.roles,
                columns.contents,
                turn_id,
                asked.subject,
                asked.request_id,
                asked.digest,
                _APPEND_OPERATION,
                columns.words,
                columns.title,
            )
            row = _checked(found)
            if not row["admitted"]:
                made = await made_before(connection, owner.tenant_id, _APPEND_OPERATION, asked)
                rows = await connection.fetch(
                    _MADE_BEFORE, owner.tenant_id, session_id, made, len(made)
                )
                return [sealed_messages.opened(keys, before) for before in rows]
            return [
                StoredMessage(
                    message_id=message.message_id,
                    session_id=session_id,
                    sequence=sequence,
                    turn_id=turn_id,
                    content=message.content,
                    create_time=row["moment"],
                )
                for sequence, message in enumerate(messages, start=row["message_count"] + 1)
            ]

        return await self._gathering.run(owner.tenant_id, append, order=session_id)

    async def list(
        self,
        owner: Owner,
        session_id: str,
        after: MessagePosition | None,
        limit: int,
        *,
        newest_first: bool,
    ) -> Sequence[StoredMessage]:
        start = END_OF_TIME if newest_first else _BEGINNING_OF_TIME
        position = after or MessagePosition(start, 0)

        async def read(connection: Connection) -> Sequence[Record]:
            asked = (owner.tenant_id, session_id, owner.user_id, *position, limit)
            if newest_first:
                return await connection.fetch(NEWEST_PAGE, *asked)
            rows = await connection.fetch(OLDEST_PAGE, *asked)
            if rows and _is_short(rows, position.sequence, limit):
                # Months were dropped: the session goes on behind them.
                rows = await connection.fetch(_OLDEST_LEFT, *asked)
            return rows

        rows = await self._gathering.run(owner.tenant_id, read)
        _checked(rows[0] if rows else None)
        keys = await self._ring.keys_of(owner.tenant_id)
        return [sealed_messages.opened(keys, row) for row in rows if row["message_id"] is not None]

    async def search(
        self, owner: Owner, wanted: MessageQuery, after: FoundPosition | None, limit: int
    ) -> Sequence[StoredMessage]:
        words = await sealed_messages.query_words(self._ring, owner, wanted.text)
        if not words:
            return []
        position = after or FoundPosition(END_OF_TIME, LAST_ID, 0)

        async def search(connection: Connection) -> Sequence[Record]:
            return await connection.fetch(
                _SEARCH, owner.user_id, words, wanted.session_id, *position, limit
            )

        rows = await self._gathering.run(owner.tenant_id, search)
        keys = await self._ring.keys_of(owner.tenant_id)
        return [sealed_messages.opened(keys, row) for row in rows]


def _is_short(rows: Sequence[Record], after: int, limit: int) -> bool:
    """Say whether a page has fewer messages than the session has had there."""
    found = sum(row["message_id"] is not None for row in rows)
    return not rows[0]["archived"] and found < min(limit, rows[0]["message_count"] - after)


def _checked(row: Record | None) -> Record:
    """Return the row of a session whose messages are in their table."""
    if row is None:
        raise SessionNotFound
    if row["archived"]:
        raise SessionArchived
    return row


_APPEND: Final = """
WITH locked AS (
    SELECT message_count, archived, greatest(clock_timestamp(), update_time) AS moment
      FROM sessions
     WHERE tenant_id = $1 AND session_id = $2 AND user_id = $3
       FOR NO KEY UPDATE
), asked AS (
    INSERT INTO requests (tenant_id, subject, operation, request_id, digest, made)
    SELECT $1, $8, $11, $9, $10, $4::uuid[] FROM locked WHERE $9::text <> '' AND NOT archived
    ON CONFLICT DO NOTHING
    RETURNING true
), admitted AS (
    SELECT * FROM locked WHERE NOT archived AND ($9 = '' OR EXISTS (SELECT FROM asked))
), counted AS (
    UPDATE sessions s
       SET message_count = a.message_count + cardinality($4::uuid[]),
           -- Whoever cleared the title later wants none.
           title = CASE WHEN a.message_count = 0 THEN coalesce(s.title, $13) ELSE s.title END,
           update_time = a.moment
      FROM admitted a
     WHERE s.tenant_id = $1 AND s.session_id = $2
), stored AS (
    INSERT INTO messages
           (tenant_id, session_id, create_time, sequence, message_id, turn_id, role, content, words)
    SELECT $1, $2, a.moment, a.message_count + m.ordinal, m.message_id, $7, m.role, m.content,
           string_to_array(m.words, ' ')
      FROM admitted a,
           unnest($4::uuid[], $5::text[], $6::bytea[], $12::text[])
               WITH ORDINALITY AS m (message_id, role, content, words, ordinal)
)
SELECT message_count, archived, moment, EXISTS (SELECT FROM admitted) AS admitted FROM locked
"""

# Found from the newest on: a request is repeated soon after it was made, if at all.
_MADE_BEFORE: Final = """
SELECT * FROM (
    SELECT session_id, create_time, sequence, message_id, turn_id, content
      FROM messages
     WHERE tenant_id = $1 AND session_id = $2 AND message_id = ANY ($3::uuid[])
     ORDER BY create_time DESC, sequence DESC
     LIMIT $4
) AS found
 ORDER BY sequence
"""

# A row without a message says that the session exists. Its times bound the months that are read:
# at run time, so the inner query has to stay one. LIMIT sees to that; it cuts nothing off.
NEWEST_PAGE: Final = """
SELECT s.archived, m.*
  FROM sessions s
  LEFT JOIN LATERAL messages_between(
      $1, $2, s.create_time, least($4, s.update_time),
      CASE $5::bigint WHEN 0 THEN s.message_count + 1 ELSE $5 END - $6::bigint,
      CASE $5::bigint WHEN 0 THEN s.message_count ELSE $5 - 1 END
  ) AS m ON true
 WHERE s.tenant_id = $1 AND s.session_id = $2 AND s.user_id = $3
 ORDER BY m.sequence DESC
"""

OLDEST_PAGE: Final = """
SELECT s.archived, s.message_count, m.*
  FROM sessions s
  LEFT JOIN LATERAL messages_between(
      $1, $2, greatest($4, s.create_time), s.update_time, $5::bigint + 1, $5::bigint + $6::bigint
  ) AS m ON true
 WHERE s.tenant_id = $1 AND s.session_id = $2 AND s.user_id = $3
 ORDER BY m.sequence
"""

_OLDEST_LEFT: Final = """
SELECT s.archived, m.*
  FROM sessions s
  LEFT JOIN LATERAL (
      SELECT session_id, create_time, sequence, message_id, turn_id, content
        FROM messages
       WHERE tenant_id = $1 AND session_id = $2
         AND create_time BETWEEN greatest($4, s.create_time) AND s.update_time
         AND sequence > $5::bigint
       ORDER BY sequence
       LIMIT $6
  ) AS m ON true
 WHERE s.tenant_id = $1 AND s.session_id = $2 AND s.user_id = $3
 ORDER BY m.sequence
"""

_SEARCH: Final = """
SELECT session_id, create_time, sequence, message_id, turn_id, content
  FROM search_messages($1, $2, $3, $4, $5, $6, $7)
 ORDER BY create_time DESC, session_id DESC, sequence DESC
"""
