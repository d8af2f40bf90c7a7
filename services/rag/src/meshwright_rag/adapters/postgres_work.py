"""Background work in PostgreSQL: leases with an epoch, taken with SKIP LOCKED."""

from collections.abc import Sequence

from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import unit_of_work, unscoped
from meshwright_rag.domain.errors import LeaseLost
from meshwright_rag.domain.models import Lease, WorkKind


class PostgresWorkQueue:
    """Implements `WorkQueue`. A lease that is not renewed for `lease_seconds` is anybody's."""

    def __init__(self, database: Database, *, lease_seconds: float) -> None:
        self._database = database
        self._lease_seconds = lease_seconds

    async def claim(self, kinds: Sequence[WorkKind], *, most: int) -> Sequence[Lease]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(
                "SELECT * FROM claim_work($1, $2, $3)",
                [kind.value for kind in kinds], self._lease_seconds, most,
            )  # fmt: skip
        return [
            Lease(
                tenant_id=row["tenant_id"],
                kind=WorkKind(row["kind"]),
                subject_id=row["subject_id"],
                epoch=row["epoch"],
                attempt=row["attempts"],
            )
            for row in rows
        ]

    async def renew(self, lease: Lease) -> None:
        await self._update(
            lease, "leased_until = now() + make_interval(secs => $5)", self._lease_seconds
        )

    async def retry(self, lease: Lease, *, delay_seconds: float, error: str) -> None:
        try:
            await self._update(
                lease,
                "leased_until = NULL, available_at = now() + make_interval(secs => $5),"
                " last_error = $6",
                delay_seconds,
                error[:1000],
            )
        except LeaseLost:
            return

    async def release(self, lease: Lease, *, delay_seconds: float = 0) -> None:
        try:
            await self._update(
                lease,
                "leased_until = NULL, attempts = attempts - 1,"
                " available_at = now() + make_interval(secs => $5)",
                delay_seconds,
            )
        except LeaseLost:
            return

    async def _update(self, lease: Lease, assignments: str, *values: object) -> None:
        async with unit_of_work(self._database, lease.tenant_id) as connection:
            done = await connection.execute(
                f"UPDATE work SET {assignments}"  # noqa: S608 - constants of this class
                " WHERE tenant_id = $1 AND kind = $2 AND subject_id = $3 AND epoch = $4",
                lease.tenant_id, lease.kind, lease.subject_id, lease.epoch, *values,
            )  # fmt: skip
        if done != "UPDATE 1":
            raise LeaseLost()


async def hold(connection: Connection, lease: Lease) -> None:
    """Prove the lease and keep others from taking it over until the open transaction ends.

    Raises: LeaseLost.
    """
    held = await connection.fetchval(
        "SELECT true FROM work"
        " WHERE tenant_id = $1 AND kind = $2 AND subject_id = $3 AND epoch = $4 FOR UPDATE",
        lease.tenant_id, lease.kind, lease.subject_id, lease.epoch,
    )  # fmt: skip
    if held is None:
        raise LeaseLost()


async def finish(connection: Connection, lease: Lease) -> None:
    """End the work in the open transaction. Raises: LeaseLost."""
    done = await connection.execute(
        "DELETE FROM work WHERE tenant_id = $1 AND kind = $2 AND subject_id = $3 AND epoch = $4",
        lease.tenant_id, lease.kind, lease.subject_id, lease.epoch,
    )  # fmt: skip
    if done != "DELETE 1":
        raise LeaseLost()
