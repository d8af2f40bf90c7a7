"""A tenant's own schema: its rows in partitions there, behind the same tables and queries.

Done by an operator with the login that migrates (`meshwright tenants`), never by a service: no
service may create or drop tables. The steps are functions of sql/0013_placement.sql; each is a
transaction of its own, all of them can be repeated, and a tenant whose move was cut short is moved
by the next try.

While rows move, writes of this one tenant are refused as `StorageUnavailable`, which callers try
again; it reads all the time, and nobody else waits longer than `moves.LOCK_PATIENCE` a try.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from meshwright_common.errors import FailedPrecondition
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.bootstrap import OWNER_SERVICE, SERVICES_WITH_TABLES
from meshwright_common.storage.moves import (
    Move,
    TenantBusy,
    moving_name,
    patiently,
    schema_of_tenant,
)
from meshwright_common.storage.postgres import (
    CONNECT_TIMEOUT_SECONDS,
    Connection,
    prepare_connection,
    schema_of,
    translated_errors,
)

__all__ = [
    "Placed",
    "TenantBusy",
    "drop_placement",
    "place_everywhere",
    "place_tenant",
    "placements",
    "schema_of_tenant",
]

PATIENCE_SECONDS: Final = 60.0
"""How long a step is tried again while somebody holds what it needs, or the tenant is busy."""

_FIRST: Final = ("chat", "orchestrator")


@dataclass(frozen=True, slots=True)
class Placed:
    """What `place_tenant` did: tables that it attached, and the rows that it moved into them."""

    tables: tuple[str, ...]
    rows: int


async def placements(connection: Connection) -> list[str]:
    """Return the ids of the tenants that have a schema of their own in this database."""
    rows = await connection.fetch(
        "SELECT substr(nspname, 8)::uuid AS tenant_id FROM pg_namespace"
        " WHERE nspname ~ '^tenant_[0-9a-f]{32}$' ORDER BY 1"
    )
    return [str(row["tenant_id"]) for row in rows]


async def place_tenant(
    owner_url: str, service: str, tenant_id: str, *, patience_seconds: float = PATIENCE_SECONDS
) -> Placed:
    """Give a tenant its own partitions of the tables of `service`, and move its rows there.

    `owner_url` logs in as `meshwright_owner`. Idempotent; goes on where another try ended. Two at
    once, and a migration, take turns.
    Raises: InvalidArgument when `tenant_id` is not a UUID; TenantBusy after `patience_seconds`,
    with the tenant able to write again and nothing lost; StorageUnavailable.
    """
    schema_of_tenant(tenant_id)
    tables: list[str] = []
    rows = 0
    async with _as_owner(owner_url) as connection:
        move = Move(connection, tenant_id, patience_seconds)
        for group in await _groups(connection, schema_of(service)):
            if waiting := await _not_attached(connection, group, tenant_id):
                # Their foreign keys tie them together; so they are all or none attached.
                rows += await move.run(waiting)
                tables += waiting
    return Placed(tuple(tables), rows)


async def place_everywhere(
    settings: DatabaseSettings, tenant_id: str, *, patience_seconds: float = PATIENCE_SECONDS
) -> dict[str, Placed]:
    """Give a tenant its own partitions of the tables of every service; as `place_tenant`.

    Those whose work must have ended come first: begin with a tenant that is suspended, or idle.
    Returns by service what was moved now.
    """
    url = settings.url_for(OWNER_SERVICE)
    return {
        service: await place_tenant(url, service, tenant_id, patience_seconds=patience_seconds)
        for service in sorted(SERVICES_WITH_TABLES, key=lambda name: (name not in _FIRST, name))
    }


async def drop_placement(
    owner_url: str, tenant_id: str, *, patience_seconds: float = PATIENCE_SECONDS
) -> bool:
    """Drop a tenant's own schema with all that is in it; return whether there was one.

    For a tenant that is gone, or is to be: what it writes from then on lies in the shared tables.
    Raises: InvalidArgument; TenantBusy after `patience_seconds`; StorageUnavailable.
    """
    moving = moving_name(tenant_id)
    async with _as_owner(owner_url) as connection:

        async def drop() -> bool:
            return bool(await connection.fetchval("SELECT events.drop_schema_of($1)", tenant_id))

        dropped = await patiently(connection, drop, patience_seconds)
        held = [str(row["name"]) for row in await connection.fetch(_HELD, moving)]

        async def release() -> None:
            for table in held:
                await connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {moving}")

        await patiently(connection, release, patience_seconds)
    return dropped


@contextlib.asynccontextmanager
async def _as_owner(owner_url: str) -> AsyncIterator[Connection]:
    with translated_errors():
        connection = await asyncpg.connect(
            owner_url,
            timeout=CONNECT_TIMEOUT_SECONDS,
            server_settings={
                "application_name": "meshwright-placement",
                # Names of tables come back with their schema.
                "search_path": "pg_catalog",
                "lock_timeout": "5s",
                "timezone": "UTC",
            },
        )
        try:
            await prepare_connection(connection)
            await connection.execute("SELECT pg_advisory_lock(hashtext('meshwright.migrate'))")
            yield connection
        finally:
            await connection.close()


async def _groups(connection: Connection, schema: str) -> list[list[str]]:
    """Return the placed tables of a schema: those that refer to each other, referred-to first."""
    rows = await connection.fetch(_TABLES, schema)
    references = {str(row["name"]): {str(name) for name in row["refers_to"]} for row in rows}
    groups: list[set[str]] = []
    for table, referred in references.items():
        tied = [group for group in groups if group & (referred | {table})]
        groups = [group for group in groups if group not in tied]
        groups.append({table, *referred}.union(*tied))
    return [_in_order(group, references) for group in groups]


def _in_order(group: set[str], references: dict[str, set[str]]) -> list[str]:
    ordered: list[str] = []
    while rest := sorted(group - set(ordered)):
        free = [table for table in rest if references[table] <= {*ordered, table}]
        if not free:
            raise FailedPrecondition(f"Foreign keys of {', '.join(rest)} go round in a circle.")
        ordered += free
    return ordered


async def _not_attached(connection: Connection, tables: Sequence[str], tenant_id: str) -> list[str]:
    rows = await connection.fetch(_ATTACHED, list(tables), tenant_id)
    attached = {str(row["name"]) for row in rows}
    return [table for table in tables if table not in attached]


_TABLES: Final = """
SELECT parent.oid::regclass::text AS name,
       ARRAY(SELECT DISTINCT i.inhparent::regclass::text
               FROM pg_constraint k
               JOIN pg_inherits i ON i.inhrelid = k.confrelid
              WHERE k.conrelid = events.shared_of(parent.oid::regclass)
                AND k.contype = 'f' AND k.confrelid <> k.conrelid) AS refers_to
  FROM pg_class parent
  JOIN pg_namespace n ON n.oid = parent.relnamespace
 WHERE n.nspname = $1 AND parent.relkind = 'p'
   AND events.is_placed(parent.oid::regclass)
   AND events.shared_of(parent.oid::regclass) IS NOT NULL
 ORDER BY parent.relname
"""

_ATTACHED: Final = """
SELECT name
  FROM unnest($1::text[]) AS name
  JOIN pg_inherits i
    ON i.inhrelid = events.placed_of(name::regclass, $2) AND i.inhparent = name::regclass
"""

_HELD: Final = """
SELECT conrelid::regclass::text AS name
  FROM pg_constraint
 WHERE conname = $1 AND coninhcount = 0
"""
