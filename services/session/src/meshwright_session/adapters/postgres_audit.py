"""The audit log in PostgreSQL. The role this runs as cannot change or remove a record."""

from collections.abc import Sequence
from typing import Final

from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_session.domain.audit_chain import FIRST_HASH, ChainHead
from meshwright_session.domain.audit_records import AuditEntry, AuditFilter, AuditRecord

_LAST_SEQUENCE: Final = 1 << 62


class PostgresAuditChain:
    """`AuditChain` inside an open transaction of the record's tenant."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def lock_head(self, tenant_id: str) -> ChainHead:
        [row] = await self._connection.fetch(_LOCK_HEAD, tenant_id, FIRST_HASH)
        return ChainHead(row["sequence"], row["hash"], row["sequence"])

    async def append(self, record: AuditRecord) -> bool:
        entry = record.entry
        appended = await self._connection.fetchval(
            _APPEND,
            entry.tenant_id,
            record.sequence,
            entry.event_id,
            entry.time,
            entry.actor,
            entry.action,
            entry.resource,
            entry.outcome,
            entry.source,
            entry.request_id,
            entry.details_json,
            record.previous_hash,
            record.hash,
        )
        return bool(appended)

    async def append_all(self, records: Sequence[AuditRecord]) -> bool:
        columns = zip(
            *(
                (
                    record.sequence,
                    record.entry.event_id,
                    record.entry.time,
                    record.entry.actor,
                    record.entry.action,
                    record.entry.resource,
                    record.entry.outcome,
                    record.entry.source,
                    record.entry.request_id,
                    record.entry.details_json,
                    record.previous_hash,
                    record.hash,
                )
                for record in records
            ),
            strict=True,
        )
        last = records[-1]
        stored = await self._connection.fetchval(
            _APPEND_ALL,
            last.entry.tenant_id,
            *map(list, columns),
            last.sequence,
            last.hash,
        )
        return bool(stored == len(records))


class PostgresAuditReader:
    """`AuditReader` on the tables `audit_records` and `audit_heads`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def head(self, tenant_id: str) -> ChainHead:
        async with unit_of_work(self._database, tenant_id) as connection:
            [row] = await connection.fetch(_HEAD, tenant_id)
        return ChainHead(row["sequence"] or 0, row["hash"] or FIRST_HASH, row["last_stored"] or 0)

    async def chain(
        self, tenant_id: str, after_sequence: int, until_sequence: int, limit: int
    ) -> Sequence[AuditRecord]:
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(_CHAIN, tenant_id, after_sequence, until_sequence, limit)
        return [_record(row) for row in rows]

    async def query(
        self, tenant_id: str, wanted: AuditFilter, before_sequence: int | None, limit: int
    ) -> Sequence[AuditRecord]:
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(
                _QUERY,
                tenant_id,
                _LAST_SEQUENCE if before_sequence is None else before_sequence,
                wanted.start,
                wanted.end,
                wanted.actor,
                wanted.action_prefix,
                limit,
            )
        return [_record(row) for row in rows]


def _record(row: Record) -> AuditRecord:
    entry = AuditEntry(
        tenant_id=row["tenant_id"],
        event_id=row["event_id"],
        time=row["time"],
        actor=row["actor"],
        action=row["action"],
        resource=row["resource"],
        outcome=row["outcome"],
        source=row["source"],
        request_id=row["request_id"],
        details_json=row["details"],
    )
    return AuditRecord(entry, row["sequence"], row["previous_hash"], row["hash"])


# The update of a row as it is takes its lock and gives it back, also when it is new.
_LOCK_HEAD: Final = """
INSERT INTO audit_heads AS h (tenant_id, sequence, hash) VALUES ($1, 0, $2)
ON CONFLICT (tenant_id) DO UPDATE SET sequence = h.sequence
RETURNING sequence, hash
"""

_APPEND: Final = """
WITH record AS (
    INSERT INTO audit_records (tenant_id, sequence, event_id, time, actor, action, resource,
                               outcome, source, request_id, details, previous_hash, hash)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
    ON CONFLICT (tenant_id, event_id) DO NOTHING
    RETURNING true
)
UPDATE audit_heads SET sequence = $2, hash = $13
 WHERE tenant_id = $1 AND EXISTS (SELECT FROM record)
RETURNING true
"""

_APPEND_ALL: Final = """
WITH stored AS (
    INSERT INTO audit_records (tenant_id, sequence, event_id, time, actor, action, resource,
                               outcome, source, request_id, details, previous_hash, hash)
    SELECT $1, *
      FROM unnest($2::bigint[], $3::uuid[], $4::timestamptz[], $5::text[], $6::text[], $7::text[],
                  $8::text[], $9::text[], $10::text[], $11::text[], $12::bytea[], $13::bytea[])
    ON CONFLICT (tenant_id, event_id) DO NOTHING
    RETURNING true
), moved AS (
    UPDATE audit_heads SET sequence = $14, hash = $15 WHERE tenant_id = $1
)
SELECT count(*) FROM stored
"""

_HEAD: Final = """
SELECT (SELECT max(sequence) FROM audit_records WHERE tenant_id = $1) AS last_stored,
       h.sequence, h.hash
  FROM (VALUES (1)) AS always (one)
  LEFT JOIN audit_heads h ON h.tenant_id = $1
"""

_CHAIN: Final = """
SELECT * FROM audit_records
 WHERE tenant_id = $1 AND sequence > $2 AND sequence <= $3
 ORDER BY sequence
 LIMIT $4
"""

_QUERY: Final = """
SELECT * FROM audit_records
 WHERE tenant_id = $1 AND sequence < $2
   AND ($3::timestamptz IS NULL OR time >= $3)
   AND ($4::timestamptz IS NULL OR time < $4)
   AND ($5 = '' OR actor = $5)
   AND starts_with(action, $6)
 ORDER BY sequence DESC
 LIMIT $7
"""
