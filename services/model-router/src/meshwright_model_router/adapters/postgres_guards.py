"""Guards of tenants in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from meshwright_common.events import audit
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_model_router.adapters.change_feed import announce_change
from meshwright_model_router.adapters.guard_rows import definition_of, guard_of
from meshwright_model_router.domain.guards.guard import Guard
from meshwright_model_router.domain.guards.guard_store import GuardRecord

SOURCE: Final = "model-router"

_READ: Final = """
SELECT name, definition, revision, update_time FROM model_router.guards
 WHERE tenant_id = $1 ORDER BY name COLLATE "C"
"""
_PUT: Final = """
INSERT INTO model_router.guards AS g (tenant_id, name, definition) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id, name) DO UPDATE
   SET definition = excluded.definition, revision = g.revision + 1, update_time = now()
RETURNING name, definition, revision, update_time
"""
_DELETE: Final = "DELETE FROM model_router.guards WHERE tenant_id = $1 AND name = $2"
# Its row is locked first by every change, so that changes of a tenant take turns.
_TAKE_TURN: Final = """
INSERT INTO model_router.guard_changes (tenant_id) VALUES ($1)
ON CONFLICT (tenant_id) DO UPDATE SET changed = pg_current_xact_id()
"""


class PostgresGuards:
    """Implements `GuardStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, tenant_id: str) -> Sequence[GuardRecord]:
        async with unit_of_work(self._database, tenant_id) as connection:
            return await _read(connection, tenant_id)

    async def put(
        self, tenant_id: str, guard: Guard, judge: Callable[[Sequence[GuardRecord]], None]
    ) -> GuardRecord:
        async with unit_of_work(self._database, tenant_id) as connection:
            await connection.execute(_TAKE_TURN, tenant_id)
            records = await _read(connection, tenant_id)
            judge(records)
            before = next((one for one in records if one.guard.name == guard.name), None)
            if before is not None and before.guard == guard:
                return before
            [row] = await connection.fetch(_PUT, tenant_id, guard.name, definition_of(guard))
            await _report(connection, "guard.set", guard.name)
            return _record(row)

    async def delete(self, tenant_id: str, name: str) -> None:
        async with unit_of_work(self._database, tenant_id) as connection:
            await connection.execute(_TAKE_TURN, tenant_id)
            if await connection.execute(_DELETE, tenant_id, name) != "DELETE 0":
                await _report(connection, "guard.removed", name)


async def _read(connection: Connection, tenant_id: str) -> Sequence[GuardRecord]:
    return [_record(row) for row in await connection.fetch(_READ, tenant_id)]


async def _report(connection: Connection, action: str, name: str) -> None:
    await audit.record(connection, source=SOURCE, action=action, resource=f"guard/{name}")
    announce_change(connection)


def _record(row: Record) -> GuardRecord:
    guard = guard_of(row["name"], row["definition"])
    return GuardRecord(guard, row["revision"], row["update_time"])
