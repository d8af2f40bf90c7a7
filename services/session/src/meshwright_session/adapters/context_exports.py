"""Copies of contexts in the object store, sealed as they are in the table.

An object is one version: a line of JSON that says which, and the sealed bytes. It is read back and
compared before anybody relies on it. Its row in `context_exports` outlives the session, so that
whoever removes objects finds those that nobody needs.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import orjson

from meshwright_common.errors import DataLoss
from meshwright_common.storage.objects import ObjectNotFound, ObjectStore, object_key
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work, unscoped

BATCH: Final = 200
"""Contexts looked up at once."""


class ExportBroken(DataLoss):
    """An object of a context is not what was stored."""

    text = "The stored copy of a context is damaged: {key}"


@dataclass(frozen=True, slots=True)
class ContextCopy:
    """A version from the object store: columns as a row of `contexts` has them."""

    cell: Mapping[str, object]
    time: datetime


class ContextExports:
    """Writes, reads and removes the copies: idempotent, by any number of processes."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects

    async def export_changed(self) -> int:
        """Store what was written since it was last stored; return how many contexts.

        Raises: ObjectStoreUnavailable, StorageUnavailable; what was stored by then stays.
        """
        done = 0
        while True:
            async with unscoped(self._database) as connection:
                waiting = await connection.fetch("SELECT * FROM contexts_to_export($1)", BATCH)
            for row in waiting:
                done += await self._export(row["tenant_id"], row["session_id"])
            if len(waiting) < BATCH:
                return done

    async def _export(self, tenant_id: str, session_id: str) -> int:
        async with unit_of_work(self._database, tenant_id) as connection:
            row = await connection.fetchrow(_CURRENT, tenant_id, session_id)
        if row is None:
            return 0
        key = export_key(tenant_id, session_id, row["version"])
        head = orjson.dumps(
            {name: row[name] for name in ("version", "last_version", "schema_version")}
            | {"session_id": session_id}
        )
        content = head + b"\n" + row["data"]
        # The row first: an object without one would never be found again.
        async with unit_of_work(self._database, tenant_id) as connection:
            await connection.execute(
                _NOTE,
                tenant_id,
                session_id,
                row["version"],
                row["last_version"],
                row["schema_version"],
                len(row["data"]),
                hashlib.sha256(content).hexdigest(),
                row["update_time"],
            )
        await self._objects.put(key, _once(content))
        if await self._read(key) != content:
            raise ExportBroken(key=key)
        async with unit_of_work(self._database, tenant_id) as connection:
            await connection.execute(_EXPORTED, tenant_id, session_id, row["version"])
        return 1

    async def find(self, tenant_id: str, session_id: str, version: int) -> ContextCopy | None:
        """Return the copy that has a version's data. Raises: ExportBroken."""
        async with unit_of_work(self._database, tenant_id) as connection:
            row = await connection.fetchrow(_FIND, tenant_id, session_id, version)
        if row is None:
            return None
        key = export_key(tenant_id, session_id, row["version"])
        try:
            content = await self._read(key)
        except ObjectNotFound:
            # Noted, and not stored yet.
            return None
        if hashlib.sha256(content).hexdigest() != row["sha256"]:
            raise ExportBroken(key=key)
        _, _, data = content.partition(b"\n")
        cell = {
            "version": row["version"],
            "schema_version": row["schema_version"],
            "data": data,
        }
        return ContextCopy(cell, row["create_time"])

    async def drop_old(self, days: int) -> int:
        """Remove copies older than `days`, and those of sessions that are gone; return how many."""
        dropped = 0
        while True:
            async with unscoped(self._database) as connection:
                rows = await connection.fetch(
                    "SELECT * FROM context_exports_to_drop($1, $2)", days, BATCH
                )
            dropped += await self._drop(rows)
            if len(rows) < BATCH:
                return dropped

    async def prune_versions(self, days: int) -> int:
        """Drop versions that were replaced more than `days` ago; return how many."""
        async with unscoped(self._database) as connection:
            dropped: int = await connection.fetchval("SELECT prune_contexts($1)", days)
        return dropped

    async def drop_of_sessions(self, tenant_id: str, session_ids: Iterable[str]) -> int:
        """Remove all copies of some sessions at once; return how many."""
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(_OF_SESSIONS, tenant_id, list(session_ids))
        return await self._drop(rows)

    async def _drop(self, rows: Iterable[Record]) -> int:
        dropped = 0
        for tenant_id, session_id, version in rows:
            await self._objects.delete(export_key(tenant_id, session_id, version))
            async with unit_of_work(self._database, tenant_id) as connection:
                await _forget(connection, tenant_id, session_id, version)
            dropped += 1
        return dropped

    async def _read(self, key: str) -> bytes:
        return b"".join([chunk async for chunk in self._objects.open(key)])


async def _forget(connection: Connection, tenant_id: str, session_id: str, version: int) -> None:
    await connection.execute(_FORGET, tenant_id, session_id, version)


def export_key(tenant_id: str, session_id: str, version: int) -> str:
    """Return the key of a copy."""
    return object_key(tenant_id, "contexts", session_id, str(version))


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


_CURRENT: Final = """
SELECT c.version, s.context_version AS last_version, c.schema_version, c.data, c.update_time
  FROM contexts c
  JOIN sessions s ON s.tenant_id = c.tenant_id AND s.session_id = c.session_id
 WHERE c.tenant_id = $1 AND c.session_id = $2 AND c.last_version IS NULL AND NOT c.exported
"""

_NOTE: Final = """
INSERT INTO context_exports
       (tenant_id, session_id, version, last_version, schema_version, size_bytes, sha256,
        create_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (tenant_id, session_id, version) DO UPDATE
   SET last_version = excluded.last_version, sha256 = excluded.sha256
"""

_EXPORTED: Final = """
UPDATE contexts SET exported = true WHERE tenant_id = $1 AND session_id = $2 AND version = $3
"""

_FIND: Final = """
SELECT version, schema_version, sha256, create_time
  FROM context_exports
 WHERE tenant_id = $1 AND session_id = $2 AND version <= $3 AND last_version >= $3
 ORDER BY version DESC
 LIMIT 1
"""

_OF_SESSIONS: Final = """
SELECT tenant_id, session_id, version
  FROM context_exports
 WHERE tenant_id = $1 AND session_id = ANY ($2::uuid[])
"""

_FORGET: Final = """
DELETE FROM context_exports WHERE tenant_id = $1 AND session_id = $2 AND version = $3
"""
