"""Work on the index of memories in PostgreSQL."""

from collections.abc import Sequence
from typing import Final

from meshwright_common.encryption import KeyRing
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unit_of_work, unscoped
from meshwright_session.adapters import memory_rows
from meshwright_session.adapters.memory_writing import HELD_SECONDS
from meshwright_session.domain.memory_ports import IndexWork
from meshwright_session.domain.models import Owner


class PostgresIndexWork:
    """`IndexQueue` on the table `memory_index_work`."""

    def __init__(self, database: Database, ring: KeyRing) -> None:
        self._database = database
        self._ring = ring

    async def claim(self, most: int) -> Sequence[IndexWork]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(_CLAIM, HELD_SECONDS, most)
        return [
            IndexWork(row["tenant_id"], row["user_id"], row["memory_id"], row["epoch"])
            for row in rows
        ]

    async def texts(self, owner: Owner, memory_ids: Sequence[str]) -> dict[str, str]:
        async with unit_of_work(self._database, owner.tenant_id) as connection:
            rows = await connection.fetch(
                _HOLDING, owner.tenant_id, owner.user_id, list(memory_ids)
            )
        if not rows:
            # Also of a tenant that was deleted, keys and all.
            return {}
        keys = await self._ring.keys_of(owner.tenant_id)
        return {row["memory_id"]: memory_rows.opened(keys, row).text for row in rows}

    async def settle(self, tenant_id: str, done: Sequence[IndexWork]) -> None:
        async with unit_of_work(self._database, tenant_id) as connection:
            await connection.execute(
                _SETTLE,
                tenant_id,
                [one.memory_id for one in done],
                [one.epoch for one in done],
            )

    async def postpone(self, work: Sequence[IndexWork], *, seconds: float) -> None:
        by_tenant: dict[str, list[str]] = {}
        for one in work:
            by_tenant.setdefault(one.tenant_id, []).append(one.memory_id)
        for tenant_id, memory_ids in by_tenant.items():
            async with unit_of_work(self._database, tenant_id) as connection:
                await connection.execute(_POSTPONE, tenant_id, memory_ids, seconds)


_CLAIM: Final = """
SELECT tenant_id, user_id, memory_id, epoch FROM claim_memory_index_work($1, $2)
"""

_HOLDING: Final = f"""
SELECT {memory_rows.COLUMNS} FROM memories
 WHERE tenant_id = $1 AND user_id = $2 AND memory_id = ANY ($3::uuid[]) AND {memory_rows.HOLDS}
"""  # noqa: S608 - constants of ours

# What changed while it was worked on is due again at once.
_SETTLE: Final = """
WITH done AS (
    SELECT * FROM unnest($2::uuid[], $3::bigint[]) AS d (memory_id, epoch)
), ended AS (
    DELETE FROM memory_index_work w USING done d
     WHERE w.tenant_id = $1 AND w.memory_id = d.memory_id AND w.epoch = d.epoch
)
UPDATE memory_index_work w SET available_time = now()
  FROM done d
 WHERE w.tenant_id = $1 AND w.memory_id = d.memory_id AND w.epoch <> d.epoch
"""

_POSTPONE: Final = """
UPDATE memory_index_work SET available_time = now() + make_interval(secs => $3)
 WHERE tenant_id = $1 AND memory_id = ANY ($2::uuid[])
"""
