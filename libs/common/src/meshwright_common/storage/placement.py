"""A tenant's own schema: its rows in partitions there, behind the same tables and queries.

Done by an operator with the login that migrates (`meshwright tenants`), never by a service: no
service may create or drop tables. The steps are functions of sql/0013_placement.sql; each is a
transaction of its own, all of them can be repeated, and a tenant whose move was cut short is moved
by the next try.

While rows move, writes of this one tenant are refused as `StorageUnavailable`, which callers try
again; it reads all the time, and nobody else waits longer than `LOCK_PATIENCE` a try.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import asyncpg

from meshwright_common.errors import FailedPrecondition
from meshwright_common.ids import parse_id
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.bootstrap import OWNER_SERVICE, SERVICES_WITH_TABLES
from meshwright_common.storage.postgres import (
    CONNECT_TIMEOUT_SECONDS,
    MOVING_PREFIX,
    Connection,
    prepare_connection,
    schema_of,
    translated_errors,
)

T = TypeVar("T")

LOCK_PATIENCE: Final = "100ms"
"""How long others may queue behind a lock that we wait for: shorter than the services'
deadlock_timeout, so that it is we who give way."""
PATIENCE_SECONDS: Final = 60.0
"""How long a step is tried again while somebody holds what it needs, or the tenant is busy."""
PAUSE_SECONDS: Final = 0.25
ROWS_AT_ONCE: Final = 10_000
"""Rows that are copied in a transaction: a long one would hold up the readers of the event log."""

_FIRST: Final = ("chat", "orchestrator")
_BUSY: Final = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)


class TenantBusy(FailedPrecondition):
    """The tenant's work under way, or a long transaction, did not end in time; nothing moved."""


@dataclass(frozen=True, slots=True)
class Placed:
    """What `place_tenant` did: tables that it attached, and the rows that it moved into them."""

    tables: tuple[str, ...]
    rows: int


def schema_of_tenant(tenant_id: str) -> str:
    """Return the name of a tenant's own schema. Raises: InvalidArgument when it is not a UUID."""
    return f"tenant_{parse_id(tenant_id, 'tenant_id').replace('-', '')}"


def _moving_name(tenant_id: str) -> str:
    # As events.moving_name makes it.
    return f"{MOVING_PREFIX}{schema_of_tenant(tenant_id).removeprefix('tenant_')}"


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
        move = _Move(connection, tenant_id, patience_seconds)
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
    moving = _moving_name(tenant_id)
    async with _as_owner(owner_url) as connection:

        async def drop() -> bool:
            return bool(await connection.fetchval("SELECT events.drop_schema_of($1)", tenant_id))

        dropped = await _patiently(connection, drop, patience_seconds)
        held = [str(row["name"]) for row in await connection.fetch(_HELD, moving)]

        async def release() -> None:
            for table in held:
                await connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {moving}")

        await _patiently(connection, release, patience_seconds)
    return dropped


class _Move:
    """One tenant's way into its schema, over one connection."""

    def __init__(self, connection: Connection, tenant_id: str, patience_seconds: float) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._patience_seconds = patience_seconds

    async def run(self, tables: Sequence[str]) -> int:
        """Move the rows of `tables`, those first to which others refer; return how many."""
        await self._patiently(lambda: self._step("prepare_placed", tables))
        await self._hold_writes(tables)
        try:
            for table in tables:
                await self._copy(table)
            await self._validate_what_is_clear(tables)
            moved = await self._switch_patiently(tables)
        except BaseException:
            # Whoever is killed before this leaves the tenant without writes until the next try.
            if not self._connection.is_closed():
                await self._patiently(lambda: self._step("release_writes", tables))
            raise
        for table in tables:
            await self._connection.execute(f"ANALYZE {await self._name_of_placed(table)}")
        return moved

    async def _hold_writes(self, tables: Sequence[str]) -> None:
        deadline = time.monotonic() + self._patience_seconds
        while not await self._patiently(lambda: self._step("hold_writes", tables)):
            if time.monotonic() > deadline:
                raise TenantBusy(
                    "The tenant has turns or tasks under way: suspend it, wait, and try again.",
                    tenant_id=self._tenant_id,
                )
            await asyncio.sleep(PAUSE_SECONDS)

    async def _copy(self, table: str) -> None:
        last = None
        while True:
            row = await self._connection.fetchrow(
                "SELECT copied, last_key FROM events.copy_rows($1::text::regclass, $2, $3, $4)",
                table,
                self._tenant_id,
                last,
                ROWS_AT_ONCE,
            )
            if row is None or row["copied"] < ROWS_AT_ONCE:
                return
            last = row["last_key"]

    async def _validate_what_is_clear(self, tables: Sequence[str]) -> None:
        """Check the partitions that hold nothing of the tenant, each in a transaction of its own.

        Reads each once, and nobody waits for it; the last transaction has the fewer to read.
        """
        for table in tables:
            for leaf in await self._leaves(table):
                if not await self._connection.fetchval(
                    f"SELECT EXISTS (SELECT FROM {leaf} WHERE tenant_id = $1)",  # noqa: S608 - of the catalogue
                    self._tenant_id,
                ):
                    await self._validate(leaf)

    async def _switch_patiently(self, tables: Sequence[str]) -> int:
        deadline = time.monotonic() + self._patience_seconds
        while True:
            try:
                return await self._switch(tables)
            except asyncpg.SerializationError as error:
                # Something was deleted at the last moment: the copies are compared again.
                if time.monotonic() > deadline:
                    raise TenantBusy(
                        "The tenant deletes all the time: suspend it, and try again.",
                        tenant_id=self._tenant_id,
                    ) from error

    async def _switch(self, tables: Sequence[str]) -> int:
        async with self._connection.transaction():
            moved = int(await self._step("leave_shared", tables))
            for table in tables:
                shared = await self._connection.fetchval(
                    "SELECT events.shared_of($1::text::regclass)::text", table
                )
                await self._validate(shared)
            await self._patiently(lambda: self._step("attach_placed", tables))
        return moved

    async def _leaves(self, table: str) -> list[str]:
        rows = await self._connection.fetch(
            "SELECT leaf::text FROM events.leaves_of(events.shared_of($1::text::regclass)) AS leaf",
            table,
        )
        return [str(row["leaf"]) for row in rows]

    async def _validate(self, table: str) -> None:
        await self._connection.execute(
            f"ALTER TABLE {table} VALIDATE CONSTRAINT {_moving_name(self._tenant_id)}"
        )

    async def _name_of_placed(self, table: str) -> str:
        name = await self._connection.fetchval(
            "SELECT events.placed_of($1::text::regclass, $2)::text", table, self._tenant_id
        )
        return str(name)

    async def _step(self, name: str, tables: Sequence[str]) -> int:
        result: int = await self._connection.fetchval(
            f"SELECT events.{name}($1::text[]::regclass[], $2)",
            list(tables),
            self._tenant_id,
        )
        return result

    async def _patiently(self, step: Callable[[], Awaitable[T]]) -> T:
        return await _patiently(self._connection, step, self._patience_seconds)


async def _patiently(
    connection: Connection, step: Callable[[], Awaitable[T]], patience_seconds: float
) -> T:
    """Do `step` in a transaction, or part of one, until it has the locks that it needs."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_PATIENCE}'")
                return await step()
        except _BUSY as error:
            if time.monotonic() > deadline:
                raise TenantBusy("Others did not let go of the tables in time.") from error
        await asyncio.sleep(PAUSE_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - jitter


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
