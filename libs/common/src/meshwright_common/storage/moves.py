"""How the rows of a tenant get from the shared partitions into its own: step by step, patiently.

The steps are functions of sql/0013_placement.sql; each is a transaction of its own but the last
ones, which are one together. See `placement` for what it is for.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import asyncpg

from meshwright_common.errors import FailedPrecondition
from meshwright_common.ids import parse_id
from meshwright_common.storage.postgres import MOVING_PREFIX, Connection

T = TypeVar("T")

LOCK_PATIENCE: Final = "100ms"
"""How long others may queue behind a lock that we wait for: shorter than the services'
deadlock_timeout, so that it is we who give way."""
PAUSE_SECONDS: Final = 0.25
ROWS_AT_ONCE: Final = 10_000
"""Rows that are copied in a transaction: a long one would hold up the readers of the event log."""

_BUSY: Final = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)


class TenantBusy(FailedPrecondition):
    """The tenant's work under way, or a long transaction, did not end in time; nothing moved."""


def schema_of_tenant(tenant_id: str) -> str:
    """Return the name of a tenant's own schema. Raises: InvalidArgument when it is not a UUID."""
    return f"tenant_{parse_id(tenant_id, 'tenant_id').replace('-', '')}"


def moving_name(tenant_id: str) -> str:
    """Return the name of the constraint that holds up a tenant's writes, as events.moving_name."""
    return f"{MOVING_PREFIX}{schema_of_tenant(tenant_id).removeprefix('tenant_')}"


class Move:
    """One tenant's way into its schema, over one connection of the owner."""

    def __init__(self, connection: Connection, tenant_id: str, patience_seconds: float) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._patience_seconds = patience_seconds

    async def run(self, tables: Sequence[str]) -> int:
        """Move the rows of `tables`, those first to which others refer; return how many.

        Raises: TenantBusy, with the tenant able to write again.
        """
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
            f"ALTER TABLE {table} VALIDATE CONSTRAINT {moving_name(self._tenant_id)}"
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
        return await patiently(self._connection, step, self._patience_seconds)


async def patiently(
    connection: Connection, step: Callable[[], Awaitable[T]], patience_seconds: float
) -> T:
    """Do `step` in a transaction, or part of one, until it has the locks that it needs.

    Raises: TenantBusy after `patience_seconds`; what `step` raises.
    """
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
