"""Sessions and their contexts in PostgreSQL."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import asyncpg

from meshwright_common.encryption import KeyRing, TenantKeys
from meshwright_common.errors import QuotaExceeded
from meshwright_common.events import audit
from meshwright_common.storage.gathering import Gathering
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_session.adapters.requests import ANONYMOUS, forget, made_before
from meshwright_session.adapters.sealed_messages import opened_title, sealed_title
from meshwright_session.adapters.session_quota import full, tell_admitted
from meshwright_session.domain.acts import Act
from meshwright_session.domain.errors import (
    SessionChanged,
    SessionNotFound,
    UserNotFound,
)
from meshwright_session.domain.models import (
    Owner,
    Request,
    Session,
    SessionChange,
    SessionDraft,
)
from meshwright_session.domain.plans import DEFAULT_PLANS, Plans
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

    def __init__(self, database: Database, ring: KeyRing, plans: Plans = DEFAULT_PLANS) -> None:
        self._database = database
        self._gathering = Gathering(database)
        self._ring = ring
        self._plans = plans

    async def create(
        self, owner: Owner, session_id: str, draft: SessionDraft, request: Request | None
    ) -> Session:
        asked = request or ANONYMOUS
        keys = await self._ring.keys_of(owner.tenant_id)
        title = sealed_title(keys, session_id, draft.title)

        async def create(connection: Connection) -> Record | QuotaExceeded:
            row = await connection.fetchrow(
                _CREATE,
                owner.tenant_id,
                owner.user_id,
                session_id,
                title,
                draft.agent,
                list(draft.knowledge_base_ids),
                draft.metadata or {},
                asked.subject,
                asked.request_id,
                asked.digest,
                _CREATE_OPERATION,
                *self._plans.sessions,
            )
            if row is None:
                made = await made_before(connection, owner.tenant_id, _CREATE_OPERATION, asked)
                return await find_session(connection, owner, made[0])
            if not row["admitted"]:
                # Not raised here: those who share the transaction would have to begin anew.
                if asked.request_id:
                    await forget(connection, owner.tenant_id, _CREATE_OPERATION, asked)
                return full(owner.tenant_id, row)
            await tell_admitted(connection, owner.tenant_id, row, self._plans)
            return row

        try:
            made = await self._gathering.run(owner.tenant_id, create)
        except asyncpg.ForeignKeyViolationError:
            raise UserNotFound from None
        if isinstance(made, QuotaExceeded):
            raise made
        return session_of(keys, made)

    async def get(self, owner: Owner, session_id: str) -> Session:
        async def find(connection: Connection) -> Record:
            return await find_session(connection, owner, session_id)

        row = await self._gathering.run(owner.tenant_id, find)
        return session_of(await self._ring.keys_of(owner.tenant_id), row)

    async def list(
        self, owner: Owner, after: SessionPosition | None, limit: int
    ) -> Sequence[Session]:
        after = after or SessionPosition(END_OF_TIME, LAST_ID)
        async with unit_of_work(self._database, owner.tenant_id) as connection:
            rows = await connection.fetch(_LIST, owner.tenant_id, owner.user_id, *after, limit)
        keys = await self._ring.keys_of(owner.tenant_id)
        return [session_of(keys, row) for row in rows]

    async def update(
        self, owner: Owner, session_id: str, change: SessionChange, revision: int | None
    ) -> Session:
        bases = change.knowledge_base_ids
        keys = await self._ring.keys_of(owner.tenant_id)
        title = sealed_title(keys, session_id, change.title or "")
        async with unit_of_work(self._database, owner.tenant_id) as connection:
            row = await connection.fetchrow(
                _UPDATE,
                owner.tenant_id,
                session_id,
                owner.user_id,
                title,
                change.agent,
                None if bases is None else list(bases),
                change.metadata,
                revision,
                change.title is not None,
            )
            if row is None:
                await find_session(connection, owner, session_id)
                raise SessionChanged
        return session_of(keys, row)

    async def delete(
        self,
        owner: Owner,
        session_id: str,
        act: Act,
        *,
        unless_used_after: datetime = END_OF_TIME,
    ) -> None:
        async with unit_of_work(self._database, owner.tenant_id) as connection:
            gone = await connection.fetchrow(
                _DELETE, owner.tenant_id, session_id, owner.user_id, unless_used_after
            )
            if gone is not None:
                # A statement of its own: it sees what was written up to the row's removal.
                await connection.execute(_DELETE_MESSAGES, owner.tenant_id, session_id, *gone)
                await connection.execute(_FORGET_SUMMARIES, owner.tenant_id, session_id)
                await audit.record(
                    connection,
                    source=SOURCE,
                    action=act.action,
                    resource=act.resource,
                    details=act.details,
                )


async def find_session(connection: Connection, owner: Owner, session_id: str) -> Record:
    """Return the row of a session. Raises: SessionNotFound."""
    row = await connection.fetchrow(_GET, owner.tenant_id, session_id, owner.user_id)
    if row is None:
        raise SessionNotFound
    return row


def session_of(keys: TenantKeys, row: Record) -> Session:
    """Return the session of a row. Raises: SealBroken."""
    return Session(
        session_id=row["session_id"],
        user_id=row["user_id"],
        title=opened_title(keys, row["session_id"], row["title"]),
        agent=row["agent"],
        knowledge_base_ids=tuple(row["knowledge_base_ids"]),
        metadata=row["metadata"],
        message_count=row["message_count"],
        context_version=row["context_version"],
        revision=row["revision"],
        archived=row["archived"],
        create_time=row["create_time"],
        update_time=row["update_time"],
        parent_session_id=row["parent_session_id"],
        branch_sequence=row["branch_sequence"],
        summarised_sequence=row["summarised_sequence"],
    )


_CREATE: Final = """
WITH asked AS (
    INSERT INTO requests (tenant_id, subject, operation, request_id, digest, made)
    SELECT $1, $8, $11, $9, $10, ARRAY[$3::uuid] WHERE $9::text <> ''
    ON CONFLICT DO NOTHING
    RETURNING true
), admitted AS MATERIALIZED (
    SELECT a.*
      FROM (SELECT WHERE $9 = '' OR EXISTS (SELECT FROM asked)) AS new
     CROSS JOIN LATERAL try_admit_session($1, $12, $13, $14) AS a
), made AS (
    INSERT INTO sessions
           (tenant_id, user_id, session_id, title, agent, knowledge_base_ids, metadata)
    SELECT $1, $2, $3, $4, $5, $6, $7 FROM admitted WHERE admitted.admitted
    RETURNING *
)
SELECT made.*, admitted.* FROM admitted LEFT JOIN made ON true
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
   SET title = CASE WHEN $9 THEN $4 ELSE title END,
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
DELETE FROM sessions
 WHERE tenant_id = $1 AND session_id = $2 AND user_id = $3 AND update_time <= $4
RETURNING create_time, update_time
"""

# What was learned in it stays: it is the user's, not the session's.
_FORGET_SUMMARIES: Final = """
DELETE FROM memories WHERE tenant_id = $1 AND session_id = $2 AND kind = 'summary'
"""

_DELETE_MESSAGES: Final = """
DELETE FROM messages
 WHERE tenant_id = $1 AND session_id = $2 AND create_time BETWEEN $3 AND $4
"""
