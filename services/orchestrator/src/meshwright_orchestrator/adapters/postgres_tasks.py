"""The stored tasks and their journals in PostgreSQL. Each write of a running task checks its epoch.

A taken-over task has a higher epoch, a cancelled one too: whoever holds an older one writes
nothing more, by the same statement that would have written.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

import orjson

from meshwright_common.encryption import KeyRing, TenantKeys
from meshwright_common.events import audit
from meshwright_common.resilience.failpoints import failpoint
from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import unit_of_work, unscoped
from meshwright_orchestrator.adapters import metrics, news, statements, task_rows, trees
from meshwright_orchestrator.adapters.task_ends import SOURCE, TaskEnds, announce
from meshwright_orchestrator.adapters.task_rows import (
    step_from,
    task_from,
)
from meshwright_orchestrator.adapters.task_starts import TaskStarts
from meshwright_orchestrator.adapters.together import Together
from meshwright_orchestrator.domain.errors import (
    CANCELLED,
    LeaseLost,
    TaskNotFound,
)
from meshwright_orchestrator.domain.journal import Step
from meshwright_orchestrator.domain.models import Task, Usage
from meshwright_orchestrator.domain.ports import Accepted, Ending, NewTask, Queueing, TaskFilter

STEPS_TOGETHER: Final = 16
"""Tasks whose steps share a statement: PostgreSQL writes those of some while we think for the
others. With all of 32 in one, each side waits for the other.
"""


class PostgresTasks:
    """Tasks: see the port. Seconds count on the database's clock."""

    def __init__(
        self, database: Database, ring: KeyRing, *, lease_seconds: float, default_seconds: float
    ) -> None:
        self._database = database
        self._ring = ring
        self._starts = TaskStarts(
            database, ring, lease_seconds=lease_seconds, default_seconds=default_seconds
        )
        self._steps = Together(
            database, ring, _write_steps, alone=True, most=STEPS_TOGETHER, beside=True
        )
        self._ends = TaskEnds(database, ring)
        self._lease_seconds = lease_seconds

    async def accept(self, new: NewTask) -> Accepted:
        return await self._starts.accept(new)

    async def enqueue(self, new: NewTask, queueing: Queueing) -> Accepted:
        accepted = await self._starts.enqueue(new, queueing)
        failpoint("task-enqueued")
        return accepted

    async def enqueue_on(
        self, connection: Connection, keys: TenantKeys, new: NewTask, queueing: Queueing
    ) -> Accepted:
        """Do as `enqueue`, in the open transaction of the task's tenant, whose keys these are."""
        return await self._starts.enqueue_on(connection, keys, new, queueing)

    async def known(self, new: NewTask) -> Task | None:
        return await self._starts.known(new)

    async def claim(
        self, tenant_id: str, task_ids: Sequence[str], engine_versions: Sequence[int]
    ) -> Sequence[Task]:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(
                statements.CLAIM,
                tenant_id,
                list(task_ids),
                self._lease_seconds,
                list(engine_versions),
            )
        return [task_from(row, keys) for row in rows]

    async def find(self, tenant_id: str, task_id: str) -> Task:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            return await self._find(connection, keys, task_id)

    async def _find(self, connection: Connection, keys: TenantKeys, task_id: str) -> Task:
        row = await connection.fetchrow(statements.FIND, keys.tenant_id, task_id)
        if row is None:
            raise TaskNotFound
        return task_from(row, keys)

    async def read(
        self, tenant_id: str, task_id: str, *, after_step: int
    ) -> tuple[Task, Sequence[Step]]:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            # The task first: a step that comes in between is told next time, never left out
            # before the end, since the last step commits with the final state.
            task = await self._find(connection, keys, task_id)
            rows = await connection.fetch(statements.STEPS_AFTER, tenant_id, task_id, after_step)
        return task, [step_from(row, keys, task_id) for row in rows]

    async def list(self, tenant_id: str, wanted: TaskFilter) -> Sequence[Task]:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(
                statements.LIST,
                tenant_id,
                wanted.subject,
                [state.value for state in wanted.states],
                wanted.session_id or None,
                wanted.before or None,
                wanted.limit,
            )
        return [task_from(row, keys) for row in rows]

    async def commit_steps(self, task: Task, steps: Sequence[Step], usage: Usage) -> None:
        keys = await self._ring.keys_of(task.tenant_id)
        if task.root_task_id:
            # Not gathered: pieces that lock trees would wait for each other in any order.
            async with unit_of_work(self._database, task.tenant_id) as connection:
                if not await trees.commit_steps(connection, keys, task, steps, usage):
                    raise LeaseLost
            return
        await self._steps.write(task.tenant_id, task.task_id, (task, steps, usage))
        failpoint("step-journaled")

    async def end(self, task: Task, ending: Ending) -> None:
        await self._ends.end(task, ending)
        failpoint("task-ended")

    async def cancel(self, tenant_id: str, task_id: str) -> Task:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            return await self.cancel_on(connection, keys, task_id)

    async def cancel_on(self, connection: Connection, keys: TenantKeys, task_id: str) -> Task:
        """Do as `cancel`, in the open transaction of the task's tenant, whose keys these are."""
        failure = task_rows.sealed_failure(keys, task_id, CANCELLED)
        row = await connection.fetchrow(statements.CANCEL, keys.tenant_id, task_id, failure)
        if row is not None:
            ended: Sequence[Task] = [task_from(row, keys)]
        else:
            found = await self._find(connection, keys, task_id)
            if found.state.is_final:
                return found
            await trees.lock(connection, keys.tenant_id, [found.root_task_id])
            ended = await trees.end_family(connection, keys, task_id)
        if not ended:
            return await self._find(connection, keys, task_id)
        await announce(connection, trees.with_context(ended))
        cancelled = next(task for task in ended if task.task_id == task_id)
        await audit.record(
            connection,
            source=SOURCE,
            action="task.cancelled",
            resource=f"task/{task_id}",
            details={"agent": cancelled.spec.agent},
        )
        for task in ended:
            news.tell(connection, news.CANCELLED, task)
        return cancelled

    async def renew(self, tasks: Sequence[Task]) -> frozenset[str]:
        return await self._set_leases(tasks, self._lease_seconds)

    async def release(self, tasks: Sequence[Task]) -> None:
        await self._set_leases(tasks, 0.0)

    async def postpone(self, task: Task, seconds: float, *, away: bool = False) -> None:
        await self._give_up(statements.POSTPONE, task, seconds, away)

    async def let_go(self, task: Task) -> None:
        await self._give_up(statements.LET_GO, task)

    async def _give_up(self, statement: str, task: Task, *values: object) -> None:
        async with unit_of_work(self._database, task.tenant_id) as connection:
            ours = await connection.fetchval(
                statement, task.tenant_id, task.task_id, task.lease_epoch, *values
            )
            if ours is None:
                raise LeaseLost
            news.tell_of(connection, task.task_id)

    async def _set_leases(self, tasks: Sequence[Task], seconds: float) -> frozenset[str]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(
                "SELECT orchestrator.renew_leases($1, $2, $3, $4) AS task_id",
                [task.tenant_id for task in tasks],
                [task.task_id for task in tasks],
                [task.lease_epoch for task in tasks],
                seconds,
            )
        return frozenset(row["task_id"] for row in rows)

    async def take_over(self, task: Task) -> Task | None:
        keys = await self._ring.keys_of(task.tenant_id)
        async with unit_of_work(self._database, task.tenant_id) as connection:
            row = await connection.fetchrow(
                statements.TAKE_OVER,
                task.tenant_id,
                task.task_id,
                task.lease_epoch,
                self._lease_seconds,
            )
        return None if row is None else task_from(row, keys)

    async def take_over_lost(
        self, limit: int, engine_versions: Sequence[int]
    ) -> Sequence[tuple[str, str]]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(
                "SELECT tenant_id, task_id FROM orchestrator.take_over_tasks($1, $2, $3)",
                limit,
                self._lease_seconds,
                list(engine_versions),
            )
        metrics.TASK_TAKEOVERS.inc(len(rows))
        return [(row["tenant_id"], row["task_id"]) for row in rows]

    async def prune(self, retention_days: int, limit: int) -> int:
        async with unscoped(self._database) as connection:
            deleted = await connection.fetchval(
                "SELECT orchestrator.prune_tasks($1, $2)", timedelta(days=retention_days), limit
            )
        return int(deleted or 0)


async def _write_steps(
    connection: Connection, keys: TenantKeys, writes: Sequence[tuple[Task, Sequence[Step], Usage]]
) -> Mapping[str, None]:
    """Write the steps of those tasks that are still ours; return their ids."""
    numbered = [(task.task_id, step) for task, steps, _ in writes for step in steps]
    rows = await connection.fetch(
        statements.COMMIT_STEPS,
        keys.tenant_id,
        [task.task_id for task, _, _ in writes],
        [task.lease_epoch for task, _, _ in writes],
        [_last_number(steps) for _, steps, _ in writes],
        [orjson.dumps(usage).decode() for _, _, usage in writes],
        [task_id for task_id, _ in numbered],
        *task_rows.step_columns(keys, numbered),
    )
    return {row["task_id"]: None for row in rows}


def _last_number(steps: Sequence[Step]) -> int:
    return steps[-1].number if steps else 0
