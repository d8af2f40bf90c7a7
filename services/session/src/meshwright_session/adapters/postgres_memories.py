"""Memories in PostgreSQL."""

from collections.abc import Sequence
from typing import Final

from meshwright_common.encryption import KeyRing
from meshwright_common.events import audit
from meshwright_common.storage.gathering import Gathering
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import retry_conflicts, unit_of_work
from meshwright_session.adapters import memory_rows, memory_writing
from meshwright_session.adapters.postgres_sessions import LAST_ID, SOURCE
from meshwright_session.adapters.requests import made_before
from meshwright_session.domain.acts import Act
from meshwright_session.domain.errors import SessionNotFound
from meshwright_session.domain.memory_models import (
    Memory,
    MemoryDraft,
    MemoryFilter,
    Provenance,
    Selection,
)
from meshwright_session.domain.memory_ports import Remembered
from meshwright_session.domain.models import Owner, Request

_REMEMBER_OPERATION: Final = "Remember"


class PostgresMemories:
    """`MemoryStore` on the table `memories`. `most`: memories that a user keeps."""

    def __init__(self, database: Database, ring: KeyRing, *, most: int) -> None:
        self._database = database
        self._gathering = Gathering(database)
        self._ring = ring
        self._most = most

    async def remember(
        self,
        owner: Owner,
        drafts: Sequence[MemoryDraft],
        provenance: Provenance,
        batch: Request,
    ) -> Remembered:
        keys = await self._ring.keys_of(owner.tenant_id)

        async def remember() -> Remembered:
            async with unit_of_work(self._database, owner.tenant_id) as connection:
                now = await memory_writing.lock_user(connection, owner)
                await _require(connection, owner, provenance.session_id)
                if not await connection.fetchval(_ASK, *_asked(owner, batch)):
                    made = await made_before(
                        connection, owner.tenant_id, _REMEMBER_OPERATION, batch
                    )
                    rows = await connection.fetch(_BY_ID, owner.tenant_id, owner.user_id, made)
                    found = {row["memory_id"]: memory_rows.opened(keys, row) for row in rows}
                    # What was forgotten since is left out.
                    return Remembered([found[one] for one in made if one in found])
                done = await memory_writing.write(
                    connection, keys, owner, drafts, provenance, now=now, most=self._most
                )
                made = [memory.memory_id for memory in done.memories]
                await connection.execute(_MADE, *_asked(owner, batch)[:4], made)
                return done

        return await retry_conflicts(remember)

    async def count(self, owner: Owner, wanted: MemoryFilter, most: int) -> int:
        async def look(connection: Connection) -> int:
            await _require(connection, owner, wanted.session_id)
            return int(
                await connection.fetchval(
                    _COUNT,
                    owner.tenant_id,
                    owner.user_id,
                    most,
                    *memory_rows.filter_arguments(wanted),
                )
            )

        return await self._gathering.run(owner.tenant_id, look)

    async def holding(
        self, owner: Owner, memory_ids: Sequence[str], wanted: MemoryFilter
    ) -> Sequence[Memory]:
        return await self._read(
            owner,
            _HOLDING,
            list(memory_ids),
            *memory_rows.filter_arguments(wanted),
        )

    async def newest(
        self, owner: Owner, wanted: MemoryFilter, limit: int, *, unindexed: bool = False
    ) -> Sequence[Memory]:
        statement = _NEWEST_UNINDEXED if unindexed else _NEWEST
        return await self._read(owner, statement, limit, *memory_rows.filter_arguments(wanted))

    async def list(
        self,
        owner: Owner,
        wanted: MemoryFilter,
        before: str | None,
        limit: int,
        *,
        include_superseded: bool,
    ) -> Sequence[Memory]:
        keys = await self._ring.keys_of(owner.tenant_id)
        async with unit_of_work(self._database, owner.tenant_id) as connection:
            await _require(connection, owner, wanted.session_id)
            rows = await connection.fetch(
                _LIST,
                owner.tenant_id,
                owner.user_id,
                before or LAST_ID,
                limit,
                include_superseded,
                *memory_rows.filter_arguments(wanted),
            )
        return [memory_rows.opened(keys, row) for row in rows]

    async def forget(self, owner: Owner, selection: Selection, act: Act) -> int:
        async with unit_of_work(self._database, owner.tenant_id) as connection:
            # The deletion's trigger tells the index.
            await memory_writing.lock_user(connection, owner)
            rows = await connection.fetch(
                _FORGET,
                owner.tenant_id,
                owner.user_id,
                selection.all,
                selection.session_id,
                list(selection.memory_ids),
            )
            if rows:
                await audit.record(
                    connection,
                    source=SOURCE,
                    action=act.action,
                    resource=act.resource,
                    details={**act.details, "count": len(rows)},
                )
        return len(rows)

    async def _read(self, owner: Owner, statement: str, *values: object) -> Sequence[Memory]:
        async def read(connection: Connection) -> Sequence[Record]:
            return await connection.fetch(statement, owner.tenant_id, owner.user_id, *values)

        rows = await self._gathering.run(owner.tenant_id, read)
        if not rows:
            return ()
        keys = await self._ring.keys_of(owner.tenant_id)
        return [memory_rows.opened(keys, row) for row in rows]


async def _require(connection: Connection, owner: Owner, session_id: str | None) -> None:
    """Raises: SessionNotFound."""
    if session_id is not None and not await connection.fetchval(
        _HAS_SESSION, owner.tenant_id, session_id, owner.user_id
    ):
        raise SessionNotFound


def _asked(owner: Owner, batch: Request) -> tuple[object, ...]:
    return owner.tenant_id, batch.subject, _REMEMBER_OPERATION, batch.request_id, batch.digest


_HAS_SESSION: Final = """
SELECT true FROM sessions WHERE tenant_id = $1 AND session_id = $2 AND user_id = $3
"""

_ASK: Final = """
INSERT INTO requests (tenant_id, subject, operation, request_id, digest, made)
VALUES ($1, $2, $3, $4, $5, '{}')
ON CONFLICT DO NOTHING
RETURNING true
"""

_MADE: Final = """
UPDATE requests SET made = $5
 WHERE tenant_id = $1 AND subject = $2 AND operation = $3 AND request_id = $4
"""

_BY_ID: Final = f"""
SELECT {memory_rows.COLUMNS} FROM memories
 WHERE tenant_id = $1 AND user_id = $2 AND memory_id = ANY ($3::uuid[])
"""  # noqa: S608 - constants of ours

_COUNT: Final = f"""
SELECT count(*) FROM (
    SELECT FROM memories
     WHERE tenant_id = $1 AND user_id = $2 AND {memory_rows.HOLDS}
       AND {memory_rows.FITS.format("$4", "$5")}
     LIMIT $3
) AS counted
"""  # noqa: S608 - constants of ours

_HOLDING: Final = f"""
SELECT {memory_rows.COLUMNS} FROM memories
 WHERE tenant_id = $1 AND user_id = $2 AND memory_id = ANY ($3::uuid[]) AND {memory_rows.HOLDS}
   AND {memory_rows.FITS.format("$4", "$5")}
"""  # noqa: S608 - constants of ours

_NEWEST: Final = f"""
SELECT {memory_rows.COLUMNS} FROM memories
 WHERE tenant_id = $1 AND user_id = $2 AND {memory_rows.HOLDS}
   AND {memory_rows.FITS.format("$4", "$5")}
 ORDER BY memory_id DESC LIMIT $3
"""  # noqa: S608 - constants of ours

_NEWEST_UNINDEXED: Final = f"""
SELECT {memory_rows.COLUMNS} FROM memories
 WHERE tenant_id = $1 AND user_id = $2 AND {memory_rows.HOLDS}
   AND {memory_rows.FITS.format("$4", "$5")}
   AND memory_id IN (SELECT memory_id FROM memory_index_work
                      WHERE tenant_id = $1 AND user_id = $2)
 ORDER BY memory_id DESC LIMIT $3
"""  # noqa: S608 - constants of ours

_LIST: Final = f"""
SELECT {memory_rows.COLUMNS} FROM memories
 WHERE tenant_id = $1 AND user_id = $2 AND memory_id < $3 AND ($5 OR {memory_rows.HOLDS})
   AND {memory_rows.FITS.format("$6", "$7")}
 ORDER BY memory_id DESC LIMIT $4
"""  # noqa: S608 - constants of ours

_FORGET: Final = """
DELETE FROM memories
 WHERE tenant_id = $1 AND user_id = $2
   AND ($3 OR session_id = $4::uuid OR memory_id = ANY ($5::uuid[]))
RETURNING memory_id
"""
