"""The tasks that wait for a worker, across tenants, in PostgreSQL."""

from collections.abc import Mapping, Sequence

from meshwright_common import context
from meshwright_common.encryption import KeyRing
from meshwright_common.storage.gathering import Gathering
from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import unflushed, unscoped
from meshwright_orchestrator.adapters import statements, task_rows
from meshwright_orchestrator.adapters.task_ends import announce
from meshwright_orchestrator.domain.errors import EXPIRED, NOT_TAKEN
from meshwright_orchestrator.domain.models import Priority
from meshwright_orchestrator.domain.ports import Waiting


class PostgresBacklog:
    """Tasks that wait: see the port. Seconds count on the database's clock.

    What is picked and put does not wait for the disk: forgotten, it is picked and put again.
    """

    def __init__(self, database: Database, ring: KeyRing) -> None:
        self._database = database
        self._ring = ring
        self._gathering = Gathering(database)

    async def pick(
        self, most: int, *, hold_seconds: float, most_offers: int, most_of_lane: int
    ) -> Sequence[Waiting]:
        async with unflushed(self._database) as connection:
            rows = await connection.fetch(
                "SELECT * FROM orchestrator.pick_queued($1, $2, $3, $4)",
                most,
                hold_seconds,
                most_offers,
                most_of_lane,
            )
        return [
            Waiting(
                tenant_id=row["tenant_id"],
                task_id=row["task_id"],
                kind=row["kind"],
                priority=Priority(row["lane"]),
                trace=row["traceparent"],
                dispatches=row["dispatches"],
                remaining_seconds=row["remaining_seconds"],
            )
            for row in rows
        ]

    async def dispatched(self, tasks: Sequence[tuple[Waiting, float]]) -> None:
        async with unflushed(self._database) as connection:
            await connection.execute(
                "SELECT orchestrator.mark_dispatched($1, $2, $3)",
                [task.tenant_id for task, _ in tasks],
                [task.task_id for task, _ in tasks],
                [seconds for _, seconds in tasks],
            )

    async def dispatch_again(self, most: int) -> int:
        async with unscoped(self._database) as connection:
            count = await connection.fetchval("SELECT orchestrator.dispatch_again($1)", most)
        return int(count or 0)

    async def overdue(self, most: int, most_offers: int) -> Sequence[tuple[str, str]]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(
                "SELECT tenant_id, task_id FROM orchestrator.overdue_tasks($1, $2)",
                most,
                most_offers,
            )
        return [(row["tenant_id"], row["task_id"]) for row in rows]

    async def expire(self, tenant_id: str, task_id: str, most_offers: int) -> bool:
        keys = await self._ring.keys_of(tenant_id)

        async def expire(connection: Connection) -> bool:
            row = await connection.fetchrow(
                statements.EXPIRE,
                tenant_id,
                task_id,
                task_rows.sealed_failure(keys, task_id, EXPIRED),
                task_rows.sealed_failure(keys, task_id, NOT_TAKEN),
                most_offers,
            )
            if row is not None:
                await announce(connection, [(task_rows.task_from(row, keys), context.current())])
            return row is not None

        return await self._gathering.run(tenant_id, expire)

    async def count(self, most: int) -> Mapping[Priority, int]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(
                "SELECT lane, tasks FROM orchestrator.count_queued($1)", most
            )
        return {Priority(row["lane"]): row["tasks"] for row in rows}
