"""Erasures as they are worked on, in PostgreSQL: leases with an epoch, the receipt at the end."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

from meshwright_common.erasure.receipt import (
    COMPLETED,
    EmptiedStore,
    KeptCopy,
    Receipt,
    canonical,
    signed,
)
from meshwright_common.events import outbox
from meshwright_common.events.envelope import Event
from meshwright_common.events.topics import Topic
from meshwright_common.identity.signing import RecordSigner
from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import unit_of_work, unscoped
from meshwright_session.adapters.postgres_erasures import read_erasure, report
from meshwright_session.adapters.postgres_sessions import SOURCE
from meshwright_session.domain.acts import Act
from meshwright_session.domain.erasure_models import Erasure, ErasureLease, Look
from meshwright_session.domain.errors import LeaseLost
from meshwright_session.domain.kept_copies import Retention, kept_copies

MAX_ERROR_CHARACTERS: Final = 2000


class PostgresErasureWork:
    """`ErasureWork`. A lease that is not renewed for `lease_seconds` is anybody's."""

    def __init__(
        self,
        database: Database,
        signer: RecordSigner,
        retention: Retention,
        *,
        lease_seconds: float,
    ) -> None:
        self._database = database
        self._signer = signer
        self._retention = retention
        self._lease_seconds = lease_seconds

    async def tenants(self) -> Sequence[str]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch("SELECT tenant_id FROM erasing_tenants()")
        return [row["tenant_id"] for row in rows]

    async def claim(self, most: int) -> Sequence[ErasureLease]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(
                "SELECT * FROM claim_erasures($1, $2)", self._lease_seconds, most
            )
        return [ErasureLease(row["tenant_id"], row["erasure_id"], row["epoch"]) for row in rows]

    async def renew(self, lease: ErasureLease) -> None:
        async with self._holding(lease) as connection:
            await connection.execute(_RENEW, lease.tenant_id, lease.erasure_id, self._lease_seconds)

    async def read(self, lease: ErasureLease) -> Erasure:
        async with self._holding(lease) as connection:
            return await read_erasure(connection, lease.tenant_id, lease.erasure_id)

    async def note(
        self, lease: ErasureLease, look: Look, *, settling: bool, delay_seconds: float
    ) -> None:
        async with self._holding(lease) as connection:
            await _add(connection, lease, look)
            await connection.execute(
                _NOTE,
                lease.tenant_id,
                lease.erasure_id,
                "settling" if settling else "erasing",
                delay_seconds,
                "; ".join(look.errors)[:MAX_ERROR_CHARACTERS],
                bool(look.removed) or settling,
            )

    async def complete(self, lease: ErasureLease, look: Look, act: Act) -> None:
        async with self._holding(lease) as connection:
            await _add(connection, lease, look)
            erasure = await read_erasure(connection, lease.tenant_id, lease.erasure_id)
            complete_time = await connection.fetchval("SELECT clock_timestamp()")
            data = signed(self._receipt(erasure, complete_time), self._signer)
            await connection.execute(
                _COMPLETE,
                lease.tenant_id,
                lease.erasure_id,
                complete_time,
                canonical(data).decode(),
            )
            await connection.execute(_FORGET_SESSIONS, lease.tenant_id, erasure.user_id or None)
            await outbox.append(
                connection,
                Topic.AUDIT_LOG,
                Event.new(
                    event_type=COMPLETED,
                    source=SOURCE,
                    tenant_id=lease.tenant_id,
                    partition_key=lease.tenant_id,
                    data=data,
                ),
            )
            await report(connection, lease.tenant_id, act)

    def _receipt(self, erasure: Erasure, complete_time: datetime) -> Receipt:
        return Receipt(
            erasure_id=erasure.erasure_id,
            kind=erasure.kind,
            subject_id=erasure.subject_id,
            tenant_id=erasure.tenant_id,
            requested_by=erasure.requested_by,
            request_time=erasure.create_time,
            complete_time=complete_time.astimezone(UTC),
            stores=[EmptiedStore(one.service, one.store, one.removed) for one in erasure.stores],
            kept=[
                KeptCopy(
                    one.place,
                    one.reason,
                    None if one.lifetime is None else complete_time + one.lifetime,
                )
                for one in kept_copies(erasure.kind, self._retention)
            ],
        )

    @asynccontextmanager
    async def _holding(self, lease: ErasureLease) -> AsyncIterator[Connection]:
        """Give a transaction in which nobody else can take the lease over. Raises: LeaseLost."""
        async with unit_of_work(self._database, lease.tenant_id) as connection:
            held = await connection.fetchval(_HOLD, lease.tenant_id, lease.erasure_id, lease.epoch)
            if held is None:
                raise LeaseLost
            yield connection


async def _add(connection: Connection, lease: ErasureLease, look: Look) -> None:
    """Add what a round came to: removed counts are sums over all rounds."""
    columns = zip(
        *((one.service, one.store, one.removed, one.remaining) for one in look.reports),
        strict=True,
    )
    if look.reports:
        await connection.execute(_ADD, lease.tenant_id, lease.erasure_id, *map(list, columns))


_HOLD: Final = """
SELECT true FROM erasures
 WHERE tenant_id = $1 AND erasure_id = $2 AND epoch = $3 AND state <> 'completed' FOR UPDATE
"""

_RENEW: Final = """
UPDATE erasures SET leased_until = clock_timestamp() + make_interval(secs => $3)
 WHERE tenant_id = $1 AND erasure_id = $2
"""

_NOTE: Final = """
UPDATE erasures
   SET state = $3, due_time = clock_timestamp() + make_interval(secs => $4), last_error = $5,
       leased_until = NULL, attempts = CASE WHEN $6 THEN 0 ELSE attempts END
 WHERE tenant_id = $1 AND erasure_id = $2
"""

_COMPLETE: Final = """
UPDATE erasures
   SET state = 'completed', complete_time = $3, receipt = $4, last_error = '',
       leased_until = NULL
 WHERE tenant_id = $1 AND erasure_id = $2
"""

_FORGET_SESSIONS: Final = "DELETE FROM erasure_sessions WHERE tenant_id = $1 AND user_id = $2"

_ADD: Final = """
INSERT INTO erasure_stores AS s (tenant_id, erasure_id, service, store, "number", removed_count,
                                 remaining_count)
SELECT $1, $2, seen.* FROM (
    SELECT r.service, r.store, r.number::integer, r.removed, r.remaining
      FROM unnest($3::text[], $4::text[], $5::bigint[], $6::bigint[])
           WITH ORDINALITY AS r (service, store, removed, remaining, number)) AS seen
ON CONFLICT (tenant_id, erasure_id, service, store) DO UPDATE
   SET removed_count = s.removed_count + excluded.removed_count,
       remaining_count = excluded.remaining_count
"""
