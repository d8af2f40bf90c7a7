"""The keys of all tenants that a process works for: loaded when first asked for, kept, followed.

Changes are looked for every two seconds, so that a key that was destroyed, or a new one, is noticed
within five. While PostgreSQL is away keys go on being used for up to ten minutes: without it
nothing that they open can be read, nor can anybody destroy them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from weakref import WeakValueDictionary

from meshwright_common.encryption.key_rows import LoadedKeys, add_version, load_or_make
from meshwright_common.encryption.master_keys import MasterKeys
from meshwright_common.encryption.tenant_keys import TenantKeys
from meshwright_common.errors import ServiceError
from meshwright_common.ids import parse_id
from meshwright_common.settings import EncryptionSettings
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unit_of_work, unscoped
from meshwright_common.telemetry.logging import get_logger

MOST_TENANTS: Final = 10_000
"""In memory, some 4 KB each; the one not asked for longest makes room."""
KEEP_SECONDS: Final = 600.0
"""How long keys are used without being loaded again."""
LOOK_EVERY_SECONDS: Final = 2.0
LOOK_BACK_SECONDS: Final = 60.0
"""Longer than a transaction may take: a change is seen however late it commits."""
COUNT_EVERY_SECONDS: Final = 60.0

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Known:
    keys: TenantKeys
    changed_at: datetime | None
    until: float

    @property
    def is_good(self) -> bool:
        return time.monotonic() < self.until and not self.keys.is_behind


class KeyRing:
    """Gives the keys of tenants, which `masters` wrap. Made by `open_key_ring`."""

    def __init__(self, masters: MasterKeys, database: Database) -> None:
        self.masters = masters
        self._database = database
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._loading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._uncounted: Counter[tuple[str, int]] = Counter()

    async def keys_of(self, tenant_id: str) -> TenantKeys:
        """Return the tenant's keys; the first call ever makes them.

        May take a connection: not to be called inside a transaction, which would hold another.
        Raises: KeysDestroyed when the tenant was deleted; MasterKeyMissing; SealBroken;
        InvalidArgument for what is no UUID; StorageUnavailable.
        """
        known = self._known.get(tenant_id)
        if known is not None and known.is_good:
            self._known.move_to_end(tenant_id)
            return known.keys
        tenant_id = parse_id(tenant_id, "tenant_id")
        lock = self._loading.setdefault(tenant_id, asyncio.Lock())
        async with lock:
            known = self._known.get(tenant_id)
            if known is None or not known.is_good:
                known = await self._load(tenant_id)
        return known.keys

    async def forget_tenant(self, tenant_id: str) -> None:
        """Destroy the tenant's keys, for good, in every process within five seconds. Idempotent.

        For the service that deletes tenants. Raises: StorageUnavailable.
        """
        async with unit_of_work(self._database, tenant_id) as connection:
            await connection.execute("SELECT encryption.destroy_keys($1)", tenant_id)
        self._drop(tenant_id)

    async def _load(self, tenant_id: str) -> _Known:
        async with unit_of_work(self._database, tenant_id) as connection:
            loaded = await load_or_make(connection, self.masters, tenant_id)
            if loaded.used_up and await add_version(
                connection, self.masters, tenant_id, loaded.newest + 1
            ):
                logger.info("data_key_followed", tenant_id=tenant_id, version=loaded.newest + 1)
                loaded = await load_or_make(connection, self.masters, tenant_id)
        return self._keep(tenant_id, loaded)

    def _keep(self, tenant_id: str, loaded: LoadedKeys) -> _Known:
        seconds = KEEP_SECONDS if loaded.valid_seconds is None else loaded.valid_seconds
        known = _Known(
            loaded.keys, loaded.changed_at, time.monotonic() + min(seconds, KEEP_SECONDS)
        )
        self._drop(tenant_id)
        self._known[tenant_id] = known
        if len(self._known) > MOST_TENANTS:
            self._drop(next(iter(self._known)))
        return known

    def _drop(self, tenant_id: str) -> None:
        known = self._known.pop(tenant_id, None)
        if known is not None:
            self._count(known.keys)

    def _count(self, keys: TenantKeys) -> None:
        if keys.seals:
            self._uncounted[keys.tenant_id, keys.current] += keys.seals
            keys.seals = 0

    async def follow(self, look_every_seconds: float = LOOK_EVERY_SECONDS) -> None:
        """Look for changes and count seals, until cancelled."""
        looked_at = counted_at = time.monotonic()
        while True:
            await asyncio.sleep(look_every_seconds)
            began = time.monotonic()
            try:
                if self._known:
                    await self.look(all_again=began - looked_at > LOOK_BACK_SECONDS / 2)
                looked_at = began
                if began - counted_at >= COUNT_EVERY_SECONDS:
                    await self.count()
                    counted_at = began
            except ServiceError as error:
                logger.warning("keys_not_followed", error=str(error))

    async def look(self, *, all_again: bool = False) -> None:
        """Drop keys that were changed since they were loaded. Raises: StorageUnavailable."""
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(
                "SELECT tenant_id, changed_at FROM encryption.changed_tenants($1)",
                LOOK_BACK_SECONDS,
            )
        if all_again:
            for tenant_id in list(self._known):
                self._drop(tenant_id)
        for row in rows:
            known = self._known.get(row["tenant_id"])
            if known is not None and known.changed_at != row["changed_at"]:
                self._drop(row["tenant_id"])

    async def count(self) -> None:
        """Add to the keys' rows how often they sealed. Raises: StorageUnavailable."""
        for known in self._known.values():
            self._count(known.keys)
        counts, self._uncounted = self._uncounted, Counter()
        if not counts:
            return
        try:
            async with unscoped(self._database) as connection:
                await connection.execute(
                    "SELECT encryption.count_seals($1, $2, $3)",
                    [tenant_id for tenant_id, _ in counts],
                    [version for _, version in counts],
                    list(counts.values()),
                )
        except ServiceError:
            self._uncounted += counts
            raise


@contextlib.asynccontextmanager
async def open_key_ring(
    settings: EncryptionSettings,
    database: Database,
    *,
    look_every_seconds: float = LOOK_EVERY_SECONDS,
) -> AsyncIterator[KeyRing]:
    """Open the keys that are in the database of a service. Connects when first asked for one.

    Raises: SettingsError when no master key is set.
    """
    ring = KeyRing(MasterKeys(settings), database)
    # Not in a TaskGroup: it would wrap every error of the block, see `open_database`.
    # house: naked-task: ended and awaited below
    following = asyncio.create_task(ring.follow(look_every_seconds))
    try:
        yield ring
    finally:
        following.cancel()
        await asyncio.wait([following])
        with contextlib.suppress(ServiceError):
            await ring.count()
