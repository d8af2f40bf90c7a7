"""Checkpoints and anchors of the audit log in PostgreSQL, and the doors across tenants."""

from collections.abc import Mapping, Sequence
from typing import Final

from meshwright_common.storage.postgres import Database, Record
from meshwright_common.storage.tenancy import unit_of_work, unscoped
from meshwright_session.domain.audit_chain import Place
from meshwright_session.domain.audit_checkpoints import Anchor, Checkpoint

_LAST_NUMBER: Final = 1 << 62


class PostgresCheckpoints:
    """`CheckpointStore` on the tables `audit_checkpoints` and `audit_anchors`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, checkpoint: Checkpoint) -> bool:
        async with unit_of_work(self._database, checkpoint.tenant_id) as connection:
            added = await connection.fetchval(
                _ADD,
                checkpoint.tenant_id,
                checkpoint.number,
                checkpoint.sequence,
                checkpoint.time,
                checkpoint.document,
                checkpoint.signature,
            )
        return bool(added)

    async def mark_stored(self, checkpoint: Checkpoint) -> None:
        async with unit_of_work(self._database, checkpoint.tenant_id) as connection:
            await connection.execute(_MARK, checkpoint.tenant_id, checkpoint.number)

    async def get(self, tenant_id: str, number: int) -> Checkpoint | None:
        async with unit_of_work(self._database, tenant_id) as connection:
            row = await connection.fetchrow(_GET, tenant_id, number)
        return None if row is None else _checkpoint(row)

    async def covering(self, tenant_id: str, sequence: int) -> Checkpoint | None:
        async with unit_of_work(self._database, tenant_id) as connection:
            row = await connection.fetchrow(_COVERING, tenant_id, sequence)
        return None if row is None else _checkpoint(row)

    async def after(
        self, tenant_id: str, number: int, *, sequence: int, limit: int
    ) -> Sequence[Checkpoint]:
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(_AFTER, tenant_id, number, sequence, limit)
        return [_checkpoint(row) for row in rows]

    async def before(self, tenant_id: str, number: int | None, limit: int) -> Sequence[Checkpoint]:
        number = _LAST_NUMBER if number is None else number
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(_BEFORE, tenant_id, number, limit)
        return [_checkpoint(row) for row in rows]

    async def last_number(self, tenant_id: str) -> int:
        async with unit_of_work(self._database, tenant_id) as connection:
            return int(await connection.fetchval(_LAST, tenant_id) or 0)

    async def add_anchor(self, anchor: Anchor) -> None:
        async with unit_of_work(self._database, anchor.tenant_id) as connection:
            await connection.execute(
                _ADD_ANCHOR, anchor.tenant_id, anchor.sequence, anchor.document, anchor.signature
            )

    async def anchors(self, tenant_id: str) -> Sequence[Anchor]:
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(_ANCHORS, tenant_id)
        return [
            Anchor(row["tenant_id"], row["sequence"], row["document"], row["signature"])
            for row in rows
        ]


class PostgresAuditDoors:
    """`AuditDoors` by the functions that the migrations made for it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def make_months(self, ahead: int) -> int:
        async with unscoped(self._database) as connection:
            return int(await connection.fetchval("SELECT make_audit_months($1)", ahead))

    async def due(self, *, seconds: float, records: int, limit: int) -> Sequence[str]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(
                "SELECT audit_due($1, $2, $3) AS tenant_id", seconds, records, limit
            )
        return [row["tenant_id"] for row in rows]

    async def unstored(self, limit: int) -> Sequence[tuple[str, int]]:
        return await self._numbers("SELECT tenant_id, number FROM audit_unstored($1)", limit)

    async def unanchored(self, days: int, limit: int) -> Mapping[str, Place]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch("SELECT * FROM audit_unanchored($1, $2)", days, limit)
        return {
            row["tenant_id"]: Place(row["sequence"], row["hash"], row["filed_at"]) for row in rows
        }

    async def drop_months(self, days: int) -> int | None:
        async with unscoped(self._database) as connection:
            dropped = int(await connection.fetchval("SELECT drop_audit_months($1)", days))
        return None if dropped < 0 else dropped

    async def expired_checkpoints(self, limit: int) -> Sequence[tuple[str, int]]:
        return await self._numbers(
            "SELECT tenant_id, number FROM audit_expired_checkpoints($1)", limit
        )

    async def forget_checkpoints(self, tenant_id: str, until: int) -> None:
        async with unscoped(self._database) as connection:
            await connection.fetchval("SELECT forget_audit_checkpoints($1, $2)", tenant_id, until)

    async def prune_events(self, limit: int) -> int:
        async with unscoped(self._database) as connection:
            return int(await connection.fetchval("SELECT prune_audit_events($1)", limit))

    async def _numbers(self, statement: str, limit: int) -> Sequence[tuple[str, int]]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(statement, limit)
        return [(row["tenant_id"], row["number"]) for row in rows]


def _checkpoint(row: Record) -> Checkpoint:
    return Checkpoint(
        tenant_id=row["tenant_id"],
        number=row["number"],
        sequence=row["sequence"],
        time=row["time"],
        document=row["document"],
        signature=row["signature"],
        stored=row["stored"],
    )


_ADD: Final = """
WITH added AS (
    INSERT INTO audit_checkpoints (tenant_id, number, sequence, time, document, signature)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (tenant_id, number) DO NOTHING
    RETURNING true
)
UPDATE audit_heads
   SET checkpoint_number = $2, checkpoint_sequence = $3, checkpoint_time = $4
 WHERE tenant_id = $1 AND EXISTS (SELECT FROM added)
RETURNING true
"""
_MARK: Final = "UPDATE audit_checkpoints SET stored = true WHERE tenant_id = $1 AND number = $2"
_GET: Final = "SELECT * FROM audit_checkpoints WHERE tenant_id = $1 AND number = $2"
_COVERING: Final = """
SELECT * FROM audit_checkpoints WHERE tenant_id = $1 AND sequence >= $2 ORDER BY sequence LIMIT 1
"""
_AFTER: Final = """
SELECT * FROM audit_checkpoints
 WHERE tenant_id = $1 AND number > $2 AND sequence > $3
 ORDER BY number LIMIT $4
"""
_BEFORE: Final = """
SELECT * FROM audit_checkpoints
 WHERE tenant_id = $1 AND number < $2
 ORDER BY number DESC LIMIT $3
"""
_LAST: Final = "SELECT max(number) FROM audit_checkpoints WHERE tenant_id = $1"
_ADD_ANCHOR: Final = """
INSERT INTO audit_anchors (tenant_id, sequence, document, signature) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, sequence) DO NOTHING
"""
_ANCHORS: Final = "SELECT * FROM audit_anchors WHERE tenant_id = $1 ORDER BY sequence"
