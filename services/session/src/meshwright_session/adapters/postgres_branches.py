"""Branches in PostgreSQL: a session, its messages and its context copied in one transaction.

Messages get ids and rows of their own, and are sealed anew for them. They are dated now, as stored
now: so they belong to months that can still be written to, and are kept as long as those.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import asyncpg

from meshwright_common.encryption import KeyRing, TenantKeys
from meshwright_common.errors import invalid
from meshwright_common.ids import new_id
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_session.adapters.context_cells import open_context, seal_context
from meshwright_session.adapters.context_history import (
    ContextHistory,
    SealedContext,
    write_context,
)
from meshwright_session.adapters.postgres_sessions import find_session, session_of
from meshwright_session.adapters.requests import ANONYMOUS, made_before
from meshwright_session.adapters.sealed_messages import (
    content_place,
    opened_content,
    opened_title,
    sealed_title,
)
from meshwright_session.adapters.session_quota import refusal, tell_admitted
from meshwright_session.domain.branches import (
    MAX_BRANCH_BYTES,
    MAX_BRANCH_MESSAGES,
    BranchPoint,
)
from meshwright_session.domain.errors import SessionArchived, SessionNotFound
from meshwright_session.domain.models import Owner, Request, Session
from meshwright_session.domain.plans import Plans

_OPERATION: Final = "BranchSession"
MESSAGES_AT_ONCE: Final = 100


class PostgresBranches:
    """`BranchStore` on the tables `sessions`, `messages` and `contexts`."""

    def __init__(
        self, database: Database, ring: KeyRing, plans: Plans, history: ContextHistory
    ) -> None:
        self._database = database
        self._ring = ring
        self._plans = plans
        self._history = history

    async def branch(
        self, owner: Owner, point: BranchPoint, session_id: str, request: Request | None
    ) -> Session:
        keys = await self._ring.keys_of(owner.tenant_id)
        try:
            async with unit_of_work(self._database, owner.tenant_id) as connection:
                if not await _is_new(connection, owner, session_id, request):
                    asked = request or ANONYMOUS
                    made = await made_before(connection, owner.tenant_id, _OPERATION, asked)
                    row = await find_session(connection, owner, made[0])
                else:
                    row = await self._copy(connection, keys, owner, point, session_id)
        except asyncpg.PostgresError as error:
            raise refusal(error, owner.tenant_id) or error from None
        return session_of(keys, row)

    async def _copy(
        self,
        connection: Connection,
        keys: TenantKeys,
        owner: Owner,
        point: BranchPoint,
        session_id: str,
    ) -> Record:
        parent = await _parent(connection, owner, point)
        title = point.title or opened_title(keys, point.session_id, parent["title"])
        made = await connection.fetchrow(
            _MAKE,
            owner.tenant_id,
            point.session_id,
            session_id,
            sealed_title(keys, session_id, title),
            point.sequence,
            *self._plans.sessions,
        )
        if made is None:
            raise SessionNotFound
        await tell_admitted(connection, owner.tenant_id, made, self._plans)
        moment: datetime = made["create_time"]
        count = await _copy_messages(connection, keys, owner, point, session_id, parent, moment)
        version = await self._copy_context(connection, keys, owner, point, session_id, moment)
        await connection.execute(
            _COUNT, owner.tenant_id, session_id, count, version, moment if version else None
        )
        return await find_session(connection, owner, session_id)

    async def _copy_context(
        self,
        connection: Connection,
        keys: TenantKeys,
        owner: Owner,
        point: BranchPoint,
        session_id: str,
        moment: datetime,
    ) -> int:
        """Write the context as the new session's first version; return 1, or 0 without any."""
        found = await connection.fetchrow(_CONTEXT, owner.tenant_id, point.session_id)
        if found is None:
            return 0
        data = open_context(keys, point.session_id, found["version"], found["data"])
        written = SealedContext(1, found["schema_version"], seal_context(keys, session_id, 1, data))
        await write_context(connection, self._history, owner.tenant_id, session_id, written, moment)
        return written.version


async def _is_new(
    connection: Connection, owner: Owner, session_id: str, request: Request | None
) -> bool:
    """Note what the request makes; False when it was made before."""
    if request is None:
        return True
    return bool(
        await connection.fetchval(
            _ASK,
            owner.tenant_id,
            request.subject,
            _OPERATION,
            request.request_id,
            request.digest,
            session_id,
        )
    )


async def _parent(connection: Connection, owner: Owner, point: BranchPoint) -> Record:
    """Return the session to branch. Raises: as the store."""
    parent = await connection.fetchrow(_PARENT, owner.tenant_id, point.session_id, owner.user_id)
    if parent is None:
        raise SessionNotFound
    if parent["archived"]:
        raise SessionArchived
    if point.sequence > parent["message_count"]:
        raise invalid(
            "sequence", f"must be at most {parent['message_count']}: that is the last message"
        )
    (size,) = await connection.fetch(
        _SIZE,
        owner.tenant_id,
        point.session_id,
        parent["create_time"],
        parent["update_time"],
        point.sequence,
    )
    if size["messages"] > MAX_BRANCH_MESSAGES:
        raise invalid("sequence", f"takes over more than {MAX_BRANCH_MESSAGES} messages")
    if size["bytes"] > MAX_BRANCH_BYTES:
        raise invalid("sequence", f"takes over more than {MAX_BRANCH_BYTES} bytes of messages")
    return parent


async def _copy_messages(
    connection: Connection,
    keys: TenantKeys,
    owner: Owner,
    point: BranchPoint,
    session_id: str,
    parent: Record,
    moment: datetime,
) -> int:
    """Copy messages a hundred at a time; return how many."""
    copied = 0
    for first in range(1, point.sequence + 1, MESSAGES_AT_ONCE):
        rows = await connection.fetch(
            _MESSAGES,
            owner.tenant_id,
            point.session_id,
            parent["create_time"],
            parent["update_time"],
            first,
            min(first + MESSAGES_AT_ONCE - 1, point.sequence),
        )
        # None, of a month that was dropped.
        if rows:
            await _store(connection, keys, owner, session_id, rows, copied, moment)
            copied += len(rows)
    return copied


async def _store(
    connection: Connection,
    keys: TenantKeys,
    owner: Owner,
    session_id: str,
    rows: Sequence[Record],
    before: int,
    moment: datetime,
) -> None:
    ids = [new_id() for _ in rows]
    contents = [
        keys.seal(content_place(new), opened_content(keys, row["message_id"], row["content"]))
        for new, row in zip(ids, rows, strict=True)
    ]
    await connection.execute(
        _STORE,
        owner.tenant_id,
        session_id,
        moment,
        before,
        ids,
        [row["turn_id"] for row in rows],
        [row["role"] for row in rows],
        contents,
        [row["words"] for row in rows],
    )


_ASK: Final = """
INSERT INTO requests (tenant_id, subject, operation, request_id, digest, made)
VALUES ($1, $2, $3, $4, $5, ARRAY[$6::uuid])
ON CONFLICT DO NOTHING
RETURNING true
"""

# Others go on writing to it; it cannot be removed or archived meanwhile.
_PARENT: Final = """
SELECT title, archived, message_count, create_time, update_time FROM sessions
 WHERE tenant_id = $1 AND session_id = $2 AND user_id = $3
   FOR KEY SHARE
"""

_SIZE: Final = """
SELECT count(*) AS messages, coalesce(sum(octet_length(content)), 0) AS bytes
  FROM messages
 WHERE tenant_id = $1 AND session_id = $2
   AND create_time BETWEEN $3 AND $4 AND sequence <= $5
"""

_MAKE: Final = """
WITH admitted AS MATERIALIZED (
    SELECT * FROM admit_session($1, $6, $7, $8)
), made AS (
    INSERT INTO sessions
           (tenant_id, user_id, session_id, title, agent, knowledge_base_ids, metadata,
            parent_session_id, branch_sequence)
    SELECT $1, s.user_id, $3, $4, s.agent, s.knowledge_base_ids, s.metadata, s.session_id, $5
      FROM sessions s, admitted
     WHERE s.tenant_id = $1 AND s.session_id = $2
    RETURNING create_time
)
SELECT made.create_time, admitted.used, admitted.most, admitted.plan FROM made, admitted
"""

_MESSAGES: Final = """
SELECT create_time, sequence, message_id, turn_id, role, content,
       array_to_string(words, ' ') AS words
  FROM messages
 WHERE tenant_id = $1 AND session_id = $2
   AND create_time BETWEEN $3 AND $4 AND sequence BETWEEN $5 AND $6
 ORDER BY sequence
"""

_STORE: Final = """
INSERT INTO messages
       (tenant_id, session_id, create_time, sequence, message_id, turn_id, role, content, words)
SELECT $1, $2, $3, $4 + m.ordinal, m.message_id, m.turn_id, m.role, m.content,
       string_to_array(m.words, ' ')
  FROM unnest($5::uuid[], $6::uuid[], $7::text[], $8::bytea[], $9::text[])
       WITH ORDINALITY AS m (message_id, turn_id, role, content, words, ordinal)
"""

_CONTEXT: Final = """
SELECT version, schema_version, data FROM contexts
 WHERE tenant_id = $1 AND session_id = $2 AND last_version IS NULL
"""

_COUNT: Final = """
UPDATE sessions SET message_count = $3, context_version = $4, context_time = $5
 WHERE tenant_id = $1 AND session_id = $2
"""
