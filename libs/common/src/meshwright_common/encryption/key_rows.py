"""The keys of a tenant in PostgreSQL: loaded, made when there are none, followed by others."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from meshwright_common.encryption.master_keys import KeyName, MasterKeys
from meshwright_common.encryption.tenant_keys import KEY_BYTES, TenantKeys
from meshwright_common.errors import FailedPrecondition
from meshwright_common.storage.postgres import Connection, Record

SEAL: Final = "seal"
BLIND: Final = "blind"
USABLE_AFTER_SECONDS: Final = 10.0
"""Until a new data key seals: twice as long as it takes every process to learn of it."""
MAX_AGE_DAYS: Final = 90
MAX_SEALS: Final = 2**30
"""A data key is followed by another one after either: nonces are random, and 2**32 is the limit."""

_LOAD: Final = """
SELECT purpose, version, master_key, wrapped, changed_at,
    usable_at <= clock_timestamp() AS usable,
    extract(epoch FROM usable_at - clock_timestamp())::float8 AS usable_in_seconds,
    seals >= $2 OR created_at < clock_timestamp() - make_interval(days => $3) AS used_up
FROM encryption.tenant_keys WHERE tenant_id = $1 ORDER BY purpose, version
"""

# Two that come at once wait for each other here, and both then read the keys of the first.
_MAKE: Final = """
INSERT INTO encryption.tenant_keys (tenant_id, purpose, version, master_key, wrapped)
VALUES ($1, 'blind', 1, $2, $3), ($1, 'seal', 1, $2, $4)
ON CONFLICT (tenant_id, purpose, version) DO NOTHING
"""


class KeysDestroyed(FailedPrecondition):
    """The tenant was deleted and its keys with it: what they sealed opens never again."""


@dataclass(frozen=True, slots=True)
class LoadedKeys:
    """A tenant's keys. `changed_at` is their last change; `valid_seconds` until a newer one seals.

    `used_up` says that the newest data key has to be followed by another one.
    """

    keys: TenantKeys
    changed_at: datetime | None
    valid_seconds: float | None
    used_up: bool
    newest: int


async def load_or_make(connection: Connection, masters: MasterKeys, tenant_id: str) -> LoadedKeys:
    """Return the tenant's keys, made now if it has none. In a transaction of the tenant.

    Raises: KeysDestroyed; MasterKeyMissing; SealBroken.
    """
    rows = await _rows(connection, tenant_id)
    if not rows:
        await connection.execute(
            _MAKE,
            tenant_id,
            masters.current,
            masters.wrap(KeyName(tenant_id, BLIND, 1), os.urandom(KEY_BYTES)),
            masters.wrap(KeyName(tenant_id, SEAL, 1), os.urandom(KEY_BYTES)),
        )
        rows = await _rows(connection, tenant_id)
    return _loaded(masters, tenant_id, rows)


async def add_version(
    connection: Connection,
    masters: MasterKeys,
    tenant_id: str,
    version: int,
    *,
    usable_after_seconds: float = USABLE_AFTER_SECONDS,
) -> bool:
    """Add the data key of that version; return False when it is there or the keys are destroyed."""
    wrapped = masters.wrap(KeyName(tenant_id, SEAL, version), os.urandom(KEY_BYTES))
    added: bool = await connection.fetchval(
        "SELECT encryption.add_key($1, $2, $3, $4, $5)",
        *(tenant_id, version, masters.current, wrapped, usable_after_seconds),
    )
    return added


async def _rows(connection: Connection, tenant_id: str) -> list[Record]:
    return await connection.fetch(_LOAD, tenant_id, MAX_SEALS, MAX_AGE_DAYS)


def _loaded(masters: MasterKeys, tenant_id: str, rows: list[Record]) -> LoadedKeys:
    if any(row["purpose"] == BLIND and row["wrapped"] is None for row in rows):
        raise KeysDestroyed("The tenant was deleted.")
    (blind,) = [row for row in rows if row["purpose"] == BLIND]
    data_keys = [row for row in rows if row["purpose"] == SEAL and row["wrapped"] is not None]
    usable = [row["version"] for row in data_keys if row["usable"]]
    waiting = [row["usable_in_seconds"] for row in data_keys if not row["usable"]]
    keys = TenantKeys(
        tenant_id,
        max(usable),
        {row["version"]: AESGCM(_unwrapped(masters, tenant_id, row)) for row in data_keys},
        _unwrapped(masters, tenant_id, blind),
    )
    changes = [row["changed_at"] for row in rows if row["changed_at"] is not None]
    return LoadedKeys(
        keys,
        max(changes, default=None),
        max(min(waiting), 0.0) if waiting else None,
        data_keys[-1]["used_up"],
        data_keys[-1]["version"],
    )


def _unwrapped(masters: MasterKeys, tenant_id: str, row: Record) -> bytes:
    name = KeyName(tenant_id, row["purpose"], row["version"])
    return masters.unwrap(name, row["master_key"], row["wrapped"])
