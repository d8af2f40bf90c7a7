"""The audit log in PostgreSQL. The role this runs as cannot change or remove a record."""

from collections.abc import Sequence
from typing import Final

from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_session.domain.audit_chain import FIRST_HASH, ChainHead, CheckpointPlace, Place
from meshwright_session.domain.audit_ports import LockedEnd
from meshwright_session.domain.audit_records import AuditEntry, AuditFilter, AuditRecord

_LAST_SEQUENCE: Final = 1 << 62


class PostgresAuditChain:
    """`AuditChain` inside an open transaction of the record's tenant."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def lock_end(self, tenant_id: str) -> LockedEnd:
        [row] = await self._connection.fetch(_LOCK_END, tenant_id, FIRST_HASH)
        return LockedEnd(Place(row["sequence"], row["hash"], row["filed_at"]), row["now"])

    async def append(self, record: AuditRecord) -> bool:
        return await self.append_all([record])

    async def append_all(self, records: Sequence[AuditRecord]) -> bool:
        columns = zip(
            *(
                (
                    record.sequence,
                    record.entry.event_id,
                    record.entry.time,
                    record.filed_at,
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
            last.filed_at,
        )
        return bool(stored == len(records))


class PostgresAuditReader:
    """`AuditReader` on the tables `audit_records` and `audit_heads`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def head(self, tenant_id: str) -> ChainHead:
        async with unit_of_work(self._database, tenant_id) as connection:
            [row] = await connection.fetch(_HEAD, tenant_id)
        last_stored = row["last_stored"] or 0
        if row["sequence"] is None:
            return ChainHead(last_stored=last_stored)
        return ChainHead(
            Place(row["sequence"], row["hash"], row["filed_at"]),
            last_stored,
            CheckpointPlace(
                row["checkpoint_number"], row["checkpoint_sequence"], row["checkpoint_time"]
            ),
        )

    async def first_sequence(self, tenant_id: str) -> int:
        async with unit_of_work(self._database, tenant_id) as connection:
            return int(await connection.fetchval(_FIRST, tenant_id) or 0)

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
    return AuditRecord(entry, row["sequence"], row["filed_at"], row["previous_hash"], row["hash"])


# The update of a row as it is takes its lock and gives it back, also when it is new.
_LOCK_END: Final = """
INSERT INTO audit_heads AS h (tenant_id, sequence, hash) VALUES ($1, 0, $2)
ON CONFLICT (tenant_id) DO UPDATE SET sequence = h.sequence
RETURNING sequence, hash, filed_at, clock_timestamp() AS now
"""

# A record whose event is known is not stored, and the end not moved: with several, all is undone.
_APPEND_ALL: Final = """
WITH new AS (
    SELECT *
      FROM unnest($2::bigint[], $3::uuid[], $4::timestamptz[], $5::timestamptz[], $6::text[],
                  $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[],
                  $13::bytea[], $14::bytea[])
        AS r (sequence, event_id, time, filed_at, actor, action, resource, outcome, source,
              request_id, details, previous_hash, hash)
), known AS (
    INSERT INTO audit_events (tenant_id, event_id, filed_at)
    SELECT $1, event_id, filed_at FROM new
    ON CONFLICT (tenant_id, event_id) DO NOTHING
    RETURNING event_id
), stored AS (
    INSERT INTO audit_records (tenant_id, sequence, event_id, time, filed_at, actor, action,
                               resource, outcome, source, request_id, details, previous_hash, hash)
    SELECT $1, new.* FROM new JOIN known USING (event_id)
    RETURNING true
), moved AS (
    UPDATE audit_heads SET sequence = $15, hash = $16, filed_at = $17
     WHERE tenant_id = $1 AND EXISTS (SELECT FROM known)
)
SELECT count(*) FROM stored
"""

_HEAD: Final = """
SELECT (SELECT max(sequence) FROM audit_records WHERE tenant_id = $1) AS last_stored,
       h.sequence, h.hash, h.filed_at,
       h.checkpoint_number, h.checkpoint_sequence, h.checkpoint_time
  FROM (VALUES (1)) AS always (one)
  LEFT JOIN audit_heads h ON h.tenant_id = $1
"""

_FIRST: Final = "SELECT min(sequence) FROM audit_records WHERE tenant_id = $1"

_CHAIN: Final = """
SELECT * FROM audit_records
 WHERE tenant_id = $1 AND sequence > $2 AND sequence <= $3
 ORDER BY sequence
 LIMIT $4
"""

_QUERY: Final = """
SELECT * FROM audit_records
 WHERE tenant_id = $1 AND sequence < $2
   -- What is dated later is filed later too: months before are not looked at.
   AND filed_at >= coalesce($3::timestamptz, '-infinity')
   AND ($3::timestamptz IS NULL OR time >= $3)
   AND ($4::timestamptz IS NULL OR time < $4)
   AND ($5 = '' OR actor = $5)
   AND starts_with(action, $6)
 ORDER BY sequence DESC
 LIMIT $7
"""
