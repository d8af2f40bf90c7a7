"""Sessions and their contexts in PostgreSQL."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import asyncpg

from meshwright_common.events import audit
from meshwright_common.storage.gathering import Gathering
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_session.adapters.requests import ANONYMOUS, made_before
from meshwright_session.domain.acts import Act
from meshwright_session.domain.errors import (
    ContextTooLarge,
    ContextVersionConflict,
    SessionChanged,
    SessionNotFound,
    UserNotFound,
)
from meshwright_session.domain.models import (
    Context,
    JsonObject,
    Owner,
    Request,
    Session,
    SessionChange,
    SessionDraft,
)
from meshwright_session.domain.ports import SessionPosition

SOURCE: Final = "session"
MAX_CONTEXT_BYTES: Final = 262144
"""As the constraint `contexts_size` has it."""
LAST_ID: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"
END_OF_TIME: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""Before the first row of a list, newest first."""

_CREATE_OPERATION: Final = "CreateSession"


class PostgresSessions:
    """`SessionStore` on the table `sessions`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._gathering = Gathering(database)

    async def create(
        self, owner: Owner, session_id: str, draft: SessionDraft, request: Request | None
    ) -> Session:
        asked = request or ANONYMOUS

        async def create(connection: Connection) -> Record:
            row = await connection.fetchrow(
                _CREATE,
                owner.tenant_id,
                owner.user_id,
                session_id,
                draft.title,
                draft.agent,
                list(draft.knowledge_base_ids),
                draft.metadata or {},
                asked.subject,
                asked.request_id,
                asked.digest,
                _CREATE_OPERATION,
            )
            if row is None:
                made = await made_before(connection, owner.tenant_id, _CREATE_OPERATION, asked)
                row = await _find(connection, owner, made[0])
            return row

        try:
            return _session(await self._gathering.run(owner.tenant_id, create))
        except asyncpg.ForeignKeyViolationError:
            raise UserNotFound from None

    async def get(self, owner: Owner, session_id: str) -> Session:
        async def find(connection: Connection) -> Record:
            return await _find(connection, owner, session_id)

        return _session(await self._gathering.run(owner.tenant_id, find))

    async def list(
        self, owner: Owner, after: SessionPosition | None, limit: int
    ) -> Sequence[Session]:
        after = after or SessionPosition(END_OF_TIME, LAST_ID)
        async with unit_of_work(self._database, owner.tenant_id) as connection:
            rows = await connection.fetch(_LIST, owner.tenant_id, owner.user_id, *after, limit)
        return [_session(row) for row in rows]

    async def update(
        self, owner: Owner, session_id: str, change: SessionChange, revision: int | None
    ) -> Session:
        bases = change.knowledge_base_ids
        async with unit_of_work(self._database, owner.tenant_id) as connection:
            row = await connection.fetchrow(
                _UPDATE,
                owner.tenant_id,
                session_id,
                owner.user_id,
                change.title,
                change.agent,
                None if bases is None else list(bases),
                change.metadata,
                revision,
            )
            if row is None:
                await _find(connection, owner, session_id)
                raise SessionChanged
        return _session(row)

    async def delete(self, owner: Owner, session_id: str, act: Act) -> None:
        async with unit_of_work(self._database, owner.tenant_id) as connection:
            if await connection.fetchval(_DELETE, owner.tenant_id, session_id, owner.user_id):
                await audit.record(
                    connection,
                    source=SOURCE,
                    action=act.action,
                    resource=act.resource,
                    details=act.details,
                )


class PostgresContexts:
    """`ContextStore` on the table `contexts`; the version is the session's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, owner: Owner, session_id: str) -> Context:
        async with unit_of_work(self._database, owner.tenant_id) as connection:
            row = await connection.fetchrow(_CONTEXT, owner.tenant_id, session_id, owner.user_id)
        if row is None:
            raise SessionNotFound
        return Context(session_id, row["context_version"], row["data"] or {}, row["update_time"])

    async def compare_and_set(
        self, owner: Owner, session_id: str, expected_version: int, data: JsonObject
    ) -> Context:
        try:
            async with unit_of_work(self._database, owner.tenant_id) as connection:
                row = await connection.fetchrow(
                    _COMPARE_AND_SET,
                    owner.tenant_id,
                    session_id,
                    owner.user_id,
                    expected_version,
                    data,
                )
                if row is None:
                    current = (await _find(connection, owner, session_id))["context_version"]
                    raise ContextVersionConflict(current_version=str(current))
        except asyncpg.CheckViolationError:
            raise ContextTooLarge(limit_bytes=str(MAX_CONTEXT_BYTES)) from None
        return Context(session_id, row["context_version"], data, row["update_time"])


async def _find(connection: Connection, owner: Owner, session_id: str) -> Record:
    row = await connection.fetchrow(_GET, owner.tenant_id, session_id, owner.user_id)
    if row is None:
        raise SessionNotFound
    return row


def _session(row: Record) -> Session:
    return Session(
        session_id=row["session_id"],
        user_id=row["user_id"],
        title=row["title"],
        agent=row["agent"],
        knowledge_base_ids=tuple(row["knowledge_base_ids"]),
        metadata=row["metadata"],
        message_count=row["message_count"],
        context_version=row["context_version"],
        revision=row["revision"],
        archived=row["archived"],
        create_time=row["create_time"],
        update_time=row["update_time"],
    )


_CREATE: Final = """
WITH asked AS (
    INSERT INTO requests (tenant_id, subject, operation, request_id, digest, made)
    SELECT $1, $8, $11, $9, $10, ARRAY[$3::uuid] WHERE $9::text <> ''
    ON CONFLICT DO NOTHING
    RETURNING true
)
INSERT INTO sessions (tenant_id, user_id, session_id, title, agent, knowledge_base_ids, metadata)
SELECT $1, $2, $3, $4, $5, $6, $7
 WHERE $9 = '' OR EXISTS (SELECT FROM asked)
RETURNING *
"""

_GET: Final = """
SELECT * FROM sessions WHERE tenant_id = $1 AND session_id = $2 AND user_id = $3
"""

_LIST: Final = """
SELECT * FROM sessions
 WHERE tenant_id = $1 AND user_id = $2 AND (update_time, session_id) < ($3, $4)
 ORDER BY update_time DESC, session_id DESC
 LIMIT $5
"""

_UPDATE: Final = """
UPDATE sessions
   SET title = coalesce($4, title),
       agent = coalesce($5, agent),
       knowledge_base_ids = coalesce($6, knowledge_base_ids),
       metadata = coalesce($7, metadata),
       revision = revision + 1,
       update_time = greatest(clock_timestamp(), update_time)
 WHERE tenant_id = $1 AND session_id = $2 AND user_id = $3
   AND ($8::bigint IS NULL OR revision = $8)
RETURNING *
"""

_DELETE: Final = """
DELETE FROM sessions WHERE tenant_id = $1 AND session_id = $2 AND user_id = $3 RETURNING true
"""

_CONTEXT: Final = """
SELECT s.context_version, c.data, c.update_time
  FROM sessions s
  LEFT JOIN contexts c ON c.tenant_id = s.tenant_id AND c.session_id = s.session_id
 WHERE s.tenant_id = $1 AND s.session_id = $2 AND s.user_id = $3
"""

# Of two writers the second waits at the row, finds another version there, and writes nothing.
_COMPARE_AND_SET: Final = """
WITH moved AS (
    UPDATE sessions
       SET context_version = context_version + 1,
           update_time = greatest(clock_timestamp(), update_time)
     WHERE tenant_id = $1 AND session_id = $2 AND user_id = $3 AND context_version = $4
    RETURNING context_version, update_time
), written AS (
    INSERT INTO contexts (tenant_id, session_id, data, update_time)
    SELECT $1, $2, $5, update_time FROM moved
    ON CONFLICT (tenant_id, session_id) DO UPDATE
       SET data = excluded.data, update_time = excluded.update_time
)
SELECT context_version, update_time FROM moved
"""
