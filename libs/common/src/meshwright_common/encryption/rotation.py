"""What operators do with keys: look at them, replace data keys, change the master key, retire.

All of it works on the database as its owner, beside services that go on working, and may be ended
and begun again at any moment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from meshwright_common.encryption.key_rows import USABLE_AFTER_SECONDS, add_version
from meshwright_common.encryption.master_keys import KeyName, MasterKeys
from meshwright_common.encryption.sealed_rows import count_older
from meshwright_common.errors import FailedPrecondition
from meshwright_common.events import outbox
from meshwright_common.events.envelope import Event
from meshwright_common.events.topics import Topic
from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import enter_tenant, unscoped

PAGE: Final = 200
RETIRE_AFTER_DAYS: Final = 2
"""Since its successor seals: journals and checkpoints in Redis live a day."""

_STATES: Final = """
SELECT tenant_id, version, master_key, seals, created_at, usable_at <= clock_timestamp() AS usable
FROM encryption.tenant_keys
WHERE purpose = 'seal' AND wrapped IS NOT NULL AND ($1::uuid IS NULL OR tenant_id = $1)
ORDER BY tenant_id, version
"""

_TO_REWRAP: Final = """
SELECT tenant_id, purpose, version, master_key, wrapped FROM encryption.tenant_keys
WHERE wrapped IS NOT NULL AND master_key <> $1
    AND (tenant_id, purpose, version) > ($2::uuid, $3::text, $4::integer)
ORDER BY tenant_id, purpose, version LIMIT $5
"""

# Destroyed or rewrapped by somebody else meanwhile: then there is nothing to do.
_REWRAP: Final = """
UPDATE encryption.tenant_keys SET master_key = $4, wrapped = $5
WHERE tenant_id = $1 AND purpose = $2 AND version = $3 AND wrapped = $6
"""

_LATER: Final = """
SELECT min(usable_at) < clock_timestamp() - make_interval(days => $3) AS is_long_ago,
    max(resealed_at) AS resealed_at
FROM encryption.tenant_keys WHERE tenant_id = $1 AND purpose = 'seal' AND version > $2
"""

_RETIRE: Final = """
UPDATE encryption.tenant_keys
SET wrapped = NULL, destroyed_at = clock_timestamp(), changed_at = clock_timestamp()
WHERE tenant_id = $1 AND purpose = 'seal' AND version = $2 AND wrapped IS NOT NULL
"""


class KeyInUse(FailedPrecondition):
    """A data key cannot be retired: something may still be sealed by it."""


@dataclass(frozen=True, slots=True)
class DataKeyState:
    """A data key of a tenant. `seals` is about how often it was used."""

    tenant_id: str
    version: int
    master_key: str
    seals: int
    created_at: datetime
    usable: bool


async def data_keys(database: Database, tenant_id: str | None = None) -> Sequence[DataKeyState]:
    """Return the data keys that are not destroyed, of one tenant or of all, by tenant, version."""
    async with unscoped(database) as connection:
        rows = await connection.fetch(_STATES, tenant_id)
    return [DataKeyState(**dict(row)) for row in rows]


async def rotate(
    database: Database,
    masters: MasterKeys,
    tenant_id: str | None = None,
    *,
    operator: str,
    usable_after_seconds: float = USABLE_AFTER_SECONDS,
) -> int:
    """Give a tenant that has keys, or each, its next data key; return how many got one.

    It seals when every process has learnt of it; older ones go on opening. A tenant whose newest
    key does not seal yet gets no further one.
    """
    newest = {key.tenant_id: key for key in await data_keys(database, tenant_id)}
    rotated = 0
    for key in newest.values():
        if not key.usable:
            continue
        version = key.version + 1
        async with unscoped(database) as connection:
            if await add_version(
                *(connection, masters, key.tenant_id, version),
                usable_after_seconds=usable_after_seconds,
            ):
                await _record(connection, "key.rotated", key.tenant_id, version, operator)
                rotated += 1
    return rotated


async def rewrap(database: Database, masters: MasterKeys) -> AsyncIterator[int]:
    """Wrap by the current master key what others wrap; yield after each page how many it were.

    Raises: MasterKeyMissing when one of the others is not in the settings; SealBroken.
    """
    place = ("00000000-0000-0000-0000-000000000000", "", 0)
    while True:
        async with unscoped(database) as connection:
            rows = await connection.fetch(_TO_REWRAP, masters.current, *place, PAGE)
            if not rows:
                return
            changes = []
            for row in rows:
                place = (row["tenant_id"], row["purpose"], row["version"])
                name = KeyName(*place)
                key = masters.unwrap(name, row["master_key"], row["wrapped"])
                changes.append((*place, masters.current, masters.wrap(name, key), row["wrapped"]))
            await connection.executemany(_REWRAP, changes)
        yield len(rows)


async def retire(database: Database, tenant_id: str, version: int, *, operator: str) -> bool:
    """Destroy an old data key of a tenant, for good; return False when it is destroyed already.

    Raises: KeyInUse when it is the one that seals, when its successor has sealed for less than two
    days, or when a row or an object is there that it may have sealed.
    """
    async with unscoped(database) as connection:
        later = await connection.fetchrow(_LATER, tenant_id, version, RETIRE_AFTER_DAYS)
        if later is None or later["is_long_ago"] is None:
            raise KeyInUse(f"Version {version} is the newest: rotate first.")
        if not later["is_long_ago"]:
            raise KeyInUse(
                f"Version {version} was followed less than {RETIRE_AFTER_DAYS} days ago: journals "
                "may still be sealed by it."
            )
        if later["resealed_at"] is None:
            raise KeyInUse(f"Version {version} may still seal rows: seal them anew first.")
        older = await count_older(connection, tenant_id, version + 1, later["resealed_at"])
        if older:
            named = ", ".join(f"{count} in {name}" for name, count in older.items())
            raise KeyInUse(f"Version {version} still seals {named}.")
        retired = await connection.execute(_RETIRE, tenant_id, version) == "UPDATE 1"
        if retired:
            await _record(connection, "key.retired", tenant_id, version, operator)
        return retired


async def foreign_master_keys(database: Database, masters: MasterKeys) -> dict[str, int]:
    """Return how many keys each master key wraps that is not the current one."""
    async with unscoped(database) as connection:
        rows = await connection.fetch(
            "SELECT master_key, count(DISTINCT tenant_id) AS tenants FROM encryption.tenant_keys"
            " WHERE wrapped IS NOT NULL AND master_key <> $1 GROUP BY master_key ORDER BY 1",
            masters.current,
        )
    return {row["master_key"]: row["tenants"] for row in rows}


async def _record(
    connection: Connection, action: str, tenant_id: str, version: int, operator: str
) -> None:
    """Tell the tenant's audit log, in the act's own transaction."""
    await enter_tenant(connection, tenant_id)
    await outbox.append(
        connection,
        Topic.AUDIT_LOG,
        Event.new(
            event_type="audit.recorded",
            source="operator",
            tenant_id=tenant_id,
            partition_key=tenant_id,
            data={
                "actor": operator,
                "action": action,
                "resource": f"key/{version}",
                "outcome": "allowed",
                "request_id": "",
                "details": {},
            },
        ),
    )
