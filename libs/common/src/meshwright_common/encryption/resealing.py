"""Stored content sealed anew: what an older data key has sealed, and what was plain before.

In small transactions beside whoever reads and writes. Ended at any moment, nothing is lost: rows
are of the old key or of the new one, and both open. Begun again, it goes on with those that are
left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias

from meshwright_common.encryption.key_ring import KeyRing
from meshwright_common.encryption.rotation import data_keys
from meshwright_common.encryption.sealed_rows import (
    PLAIN,
    SealedColumn,
    prefix_of,
    sealed_columns,
)
from meshwright_common.encryption.tenant_keys import SealBroken, TenantKeys
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import retry_conflicts, unit_of_work, unscoped

PAGE: Final = 100
"""Rows in one transaction: whoever writes one of them waits for all."""
PASSES: Final = 5
"""Rows that somebody was writing are looked at again, so many times."""

# A key that had nothing to seal anew since is as it was.
_RESEALED: Final = """
UPDATE encryption.tenant_keys SET resealed_at = clock_timestamp()
WHERE tenant_id = $1 AND purpose = 'seal' AND version = $2 AND (resealed_at IS NULL OR $3 > 0)
"""

Tell: TypeAlias = Callable[[int], None]


@dataclass(slots=True)
class Resealed:
    """What came of it: rows that were sealed anew, those that do not open, those that are left."""

    rows: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)

    def add(self, other: Resealed) -> None:
        """Count what came of another piece as well."""
        self.rows += other.rows
        self.broken += other.broken
        self.left += other.left


async def reseal(
    database: Database,
    ring: KeyRing,
    tenant_id: str | None = None,
    *,
    page: int = PAGE,
    tell: Tell | None = None,
) -> Resealed:
    """Seal by the current data key what older ones have sealed, of one tenant or of all.

    `tell` is called after each page with how many rows there are so far. `ring` is of the same
    database, which its owner has opened. Raises: StorageUnavailable; MasterKeyMissing.
    """
    done = Resealed()
    async with unscoped(database) as connection:
        columns = await sealed_columns(connection)
    tenants = dict.fromkeys(key.tenant_id for key in await data_keys(database, tenant_id))
    for tenant in tenants:
        mine = Resealed()
        for column in columns:
            await _Work(database, ring, column, tenant, page, mine, tell, done.rows).through()
        if not mine.left and not mine.broken:
            version = (await ring.keys_of(tenant)).current
            async with unscoped(database) as connection:
                await connection.execute(_RESEALED, tenant, version, mine.rows)
        done.add(mine)
    return done


async def has_plain(database: Database) -> bool:
    """Return whether a migration has left content for `seal_plain`."""
    async with unscoped(database) as connection:
        return any(column.has_plain for column in await sealed_columns(connection))


async def seal_plain(database: Database, ring: KeyRing, *, page: int = PAGE) -> Resealed:
    """Seal what stands plain since before its column was sealed; cheap when there is nothing."""
    done = Resealed()
    async with unscoped(database) as connection:
        columns = [column for column in await sealed_columns(connection) if column.has_plain]
    for column in columns:
        async with unscoped(database) as connection:
            rows = await connection.fetch(
                f"SELECT DISTINCT tenant_id FROM {column.relation}"  # noqa: S608 - names from the catalogue
                f" WHERE substring({column.column} FROM 1 FOR 1) = $1",
                PLAIN,
            )
        for row in rows:
            work = _Work(database, ring, column, row["tenant_id"], page, done, None, plain=True)
            await work.through()
        if column.name not in done.left:
            async with unscoped(database) as connection:
                await connection.execute(
                    "UPDATE encryption.sealed_columns SET has_plain = false"
                    " WHERE relation = $1 AND sealed_column = $2",
                    column.relation,
                    column.column,
                )
    return done


@dataclass(frozen=True, slots=True)
class _Page:
    """Rows that were found, those of them that do not open, and the key of the last one."""

    found: int = 0
    broken: int = 0
    end: tuple[object, ...] = ()


@dataclass(slots=True)
class _Work:
    """One sealed column of one tenant."""

    database: Database
    ring: KeyRing
    column: SealedColumn
    tenant_id: str
    page: int
    done: Resealed
    tell: Tell | None
    told: int = 0
    plain: bool = False

    async def through(self) -> None:
        broken = left = 0
        for _ in range(PASSES):
            keys = await self.ring.keys_of(self.tenant_id)
            broken = await self._pass(keys)
            left = await self._count(keys) - broken
            if left <= 0:
                break
        # Adding drops what is not above zero.
        self.done.left += Counter({self.column.name: left})
        self.done.broken += Counter({self.column.name: broken})

    async def _pass(self, keys: TenantKeys) -> int:
        """Seal all rows that are free; return how many do not open."""
        broken = 0
        page = _Page()
        while True:
            page = await retry_conflicts(partial(self._page, keys, page.end))
            broken += page.broken
            self.done.rows += page.found - page.broken
            if self.tell is not None:
                self.tell(self.told + self.done.rows)
            if page.found < self.page:
                return broken

    async def _page(self, keys: TenantKeys, after: tuple[object, ...]) -> _Page:
        column = self.column
        changes: list[tuple[object, ...]] = []
        async with unit_of_work(self.database, self.tenant_id) as connection:
            rows = await connection.fetch(
                column.page(plain=self.plain, after=bool(after)),
                *(self.tenant_id, self._prefix(keys), self.page, *after),
            )
            for row in rows:
                after = tuple(row[name] for name in column.key)
                place, sealed = column.place_of(row), row["sealed"]
                try:
                    content = sealed[len(PLAIN) :] if self.plain else keys.open(place, sealed)
                except SealBroken:
                    continue
                changes.append((self.tenant_id, keys.seal(place, content), *after))
            await connection.executemany(column.write(), changes)
        return _Page(len(rows), len(rows) - len(changes), after)

    async def _count(self, keys: TenantKeys) -> int:
        async with unscoped(self.database) as connection:
            count: int = await connection.fetchval(
                self.column.count(plain=self.plain), self.tenant_id, self._prefix(keys)
            )
        return count

    def _prefix(self, keys: TenantKeys) -> bytes:
        return PLAIN if self.plain else prefix_of(keys.current)
