"""Contexts in PostgreSQL: compared and set, with every version that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from meshwright_common.encryption import KeyRing, TenantKeys
from meshwright_common.storage.gathering import Gathering
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_session.adapters.context_cells import seal_context
from meshwright_session.adapters.context_exports import ContextExports
from meshwright_session.adapters.context_history import (
    ContextHistory,
    SealedContext,
    write_context,
)
from meshwright_session.adapters.requests import ANONYMOUS, made_before
from meshwright_session.adapters.window_rows import STAMP_AND_CONTEXT, read_context
from meshwright_session.domain.context_ports import KeptVersion
from meshwright_session.domain.context_schema import ContextSchema
from meshwright_session.domain.errors import (
    ContextSchemaUnknown,
    ContextVersionConflict,
    SessionNotFound,
    VersionNotKept,
)
from meshwright_session.domain.models import Context, JsonObject, Owner, Request

_RESTORE_OPERATION: Final = "RestoreSnapshot"


class _Found(NamedTuple):
    """Data of a version, and when it was written."""

    data: JsonObject
    time: datetime | None


class PostgresContexts:
    """`ContextStore` on the table `contexts`; the current version is the session's."""

    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        schema: ContextSchema,
        history: ContextHistory,
        exports: ContextExports,
    ) -> None:
        self._gathering = Gathering(database)
        self._ring = ring
        self._schema = schema
        self._history = history
        self._exports = exports

    async def get(self, owner: Owner, session_id: str) -> Context:
        keys = await self._ring.keys_of(owner.tenant_id)
        row = await self._row(owner, session_id, STAMP_AND_CONTEXT)
        data, _ = read_context(keys, self._schema, session_id, row)
        return Context(session_id, row["context_version"], data, row["context_time"])

    async def compare_and_set(
        self, owner: Owner, session_id: str, expected_version: int, data: JsonObject
    ) -> Context:
        keys = await self._ring.keys_of(owner.tenant_id)
        version = expected_version + 1
        sealed = seal_context(keys, session_id, version, data)

        async def write(connection: Connection) -> Context:
            moment = await connection.fetchval(
                _MOVE,
                owner.tenant_id,
                session_id,
                owner.user_id,
                expected_version,
                self._schema.current,
            )
            if moment is None:
                await self._explain(connection, owner, session_id, expected_version)
            written = SealedContext(version, self._schema.current, sealed)
            await write_context(
                connection, self._history, owner.tenant_id, session_id, written, moment
            )
            return Context(session_id, version, data, moment)

        return await self._gathering.run(owner.tenant_id, write, order=session_id)

    async def _explain(
        self, connection: Connection, owner: Owner, session_id: str, expected_version: int
    ) -> None:
        """Raise what kept a context from being written."""
        row = await connection.fetchrow(
            STAMP_AND_CONTEXT, owner.tenant_id, session_id, owner.user_id
        )
        if row is None:
            raise SessionNotFound
        if row["context_version"] != expected_version:
            raise ContextVersionConflict(current_version=str(row["context_version"]))
        raise ContextSchemaUnknown(
            schema=str(row["schema_version"]), known=str(self._schema.current)
        )

    async def restore(
        self, owner: Owner, session_id: str, version: int, request: Request | None
    ) -> Context:
        asked = request or ANONYMOUS
        keys = await self._ring.keys_of(owner.tenant_id)
        try:
            found = await self._find(keys, owner, session_id, version)
        except VersionNotKept:
            found = None

        async def write(connection: Connection) -> Context | int:
            row = await connection.fetchrow(
                _ASK_TO_RESTORE,
                owner.tenant_id,
                session_id,
                owner.user_id,
                asked.subject,
                asked.request_id,
                asked.digest,
                _RESTORE_OPERATION,
            )
            if row is None:
                raise SessionNotFound
            if not row["admitted"]:
                [made] = await made_before(connection, owner.tenant_id, _RESTORE_OPERATION, asked)
                return UUID(made).int
            if found is None:
                raise VersionNotKept(version=str(version))
            if row["schema_version"] is not None:
                self._schema.check(row["schema_version"])
            next_version: int = row["context_version"] + 1
            sealed = seal_context(keys, session_id, next_version, found.data)
            await connection.execute(
                _RESTORED, owner.tenant_id, session_id, next_version, row["moment"]
            )
            written = SealedContext(next_version, self._schema.current, sealed)
            await write_context(
                connection, self._history, owner.tenant_id, session_id, written, row["moment"]
            )
            return Context(session_id, next_version, found.data, row["moment"])

        written = await self._gathering.run(owner.tenant_id, write, order=session_id)
        if isinstance(written, Context):
            return written
        before = await self._find(keys, owner, session_id, written)
        return Context(session_id, written, before.data, before.time)

    async def at(self, owner: Owner, session_id: str, version: int) -> JsonObject:
        keys = await self._ring.keys_of(owner.tenant_id)
        return (await self._find(keys, owner, session_id, version)).data

    async def _find(self, keys: TenantKeys, owner: Owner, session_id: str, version: int) -> _Found:
        row = await self._row(owner, session_id, _AT, version)
        if version > row["context_version"]:
            raise VersionNotKept(version=str(version))
        if row["version"] is not None and version <= (row["last_version"] or version):
            data, _ = read_context(keys, self._schema, session_id, row)
            return _Found(data, row["update_time"])
        if version == 0 or (row["version"] is None and row["is_first"]):
            return _Found({}, None)
        copy = await self._exports.find(owner.tenant_id, session_id, version)
        if copy is None:
            raise VersionNotKept(version=str(version))
        data, _ = read_context(keys, self._schema, session_id, copy.cell)
        return _Found(data, copy.time)

    async def kept(
        self, owner: Owner, session_id: str, before_version: int | None, limit: int
    ) -> Sequence[KeptVersion]:
        async def read(connection: Connection) -> Sequence[Record]:
            return await connection.fetch(
                _KEPT, owner.tenant_id, session_id, owner.user_id, before_version, limit
            )

        rows = await self._gathering.run(owner.tenant_id, read)
        if not rows:
            raise SessionNotFound
        return [
            KeptVersion(row["version"], row["last_version"], row["time"], row["size_bytes"])
            for row in rows
            if row["version"] is not None
        ]

    async def _row(self, owner: Owner, session_id: str, query: str, *arguments: int) -> Record:
        async def read(connection: Connection) -> Record | None:
            return await connection.fetchrow(
                query, owner.tenant_id, session_id, owner.user_id, *arguments
            )

        row = await self._gathering.run(owner.tenant_id, read)
        if row is None:
            raise SessionNotFound
        return row


# Of two writers the second waits at the row, finds another version there, and writes nothing.
_MOVE: Final = """
UPDATE sessions s
   SET context_version = s.context_version + 1,
       context_time = greatest(clock_timestamp(), s.update_time),
       update_time = greatest(clock_timestamp(), s.update_time)
 WHERE s.tenant_id = $1 AND s.session_id = $2 AND s.user_id = $3 AND s.context_version = $4
   AND NOT EXISTS (
       SELECT FROM contexts c
        WHERE c.tenant_id = $1 AND c.session_id = $2 AND c.last_version IS NULL
          AND c.schema_version > $5
   )
RETURNING s.context_time
"""

# The version that it will write is what the request made, as a UUID: that is what requests keep.
_ASK_TO_RESTORE: Final = """
WITH locked AS (
    SELECT context_version, greatest(clock_timestamp(), update_time) AS moment
      FROM sessions
     WHERE tenant_id = $1 AND session_id = $2 AND user_id = $3
       FOR NO KEY UPDATE
), asked AS (
    INSERT INTO requests (tenant_id, subject, operation, request_id, digest, made)
    SELECT $1, $4, $7, $5, $6,
           ARRAY[lpad(to_hex(l.context_version + 1), 32, '0')::uuid]
      FROM locked l
     WHERE $5::text <> ''
    ON CONFLICT DO NOTHING
    RETURNING true
)
SELECT l.*, $5 = '' OR EXISTS (SELECT FROM asked) AS admitted,
       (SELECT c.schema_version FROM contexts c
         WHERE c.tenant_id = $1 AND c.session_id = $2 AND c.last_version IS NULL
       ) AS schema_version
  FROM locked l
"""

_RESTORED: Final = """
UPDATE sessions SET context_version = $3, context_time = $4, update_time = $4
 WHERE tenant_id = $1 AND session_id = $2
"""

# The newest one written up to that version. Without one: whether the oldest is the first ever, or
# there is none at all, so that the context was empty then.
_AT: Final = """
SELECT s.context_version, c.version, c.last_version, c.schema_version, c.data, c.update_time,
       coalesce(
           (SELECT o.is_first FROM contexts o
             WHERE o.tenant_id = $1 AND o.session_id = $2
             ORDER BY o.version LIMIT 1),
           true
       ) AS is_first
  FROM sessions s
  LEFT JOIN LATERAL (
      SELECT * FROM contexts c
       WHERE c.tenant_id = $1 AND c.session_id = $2 AND c.version <= $4
       ORDER BY c.version DESC
       LIMIT 1
  ) AS c ON true
 WHERE s.tenant_id = $1 AND s.session_id = $2 AND s.user_id = $3
"""

_KEPT: Final = """
SELECT k.*
  FROM sessions s
  LEFT JOIN LATERAL (
      SELECT c.version, coalesce(c.last_version, s.context_version) AS last_version,
             c.update_time AS time, octet_length(c.data) AS size_bytes
        FROM contexts c
       WHERE c.tenant_id = $1 AND c.session_id = $2 AND ($4::bigint IS NULL OR c.version < $4)
       UNION ALL
      SELECT e.version, e.last_version, e.create_time, e.size_bytes
        FROM context_exports e
       WHERE e.tenant_id = $1 AND e.session_id = $2 AND ($4::bigint IS NULL OR e.version < $4)
         AND NOT EXISTS (
             SELECT FROM contexts c
              WHERE c.tenant_id = $1 AND c.session_id = $2 AND c.version = e.version
         )
       ORDER BY version DESC
       LIMIT $5
  ) AS k ON true
 WHERE s.tenant_id = $1 AND s.session_id = $2 AND s.user_id = $3
 ORDER BY k.version DESC
"""
