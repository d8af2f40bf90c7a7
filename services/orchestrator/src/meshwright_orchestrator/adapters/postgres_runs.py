"""The stored runs of workflows in PostgreSQL.

A run has no lease: whoever changes it names the revision that it read, and a second one writes
nothing. What begins and stops by a change is written in its transaction. Rows are locked from a run
to the runs below it and then to tasks; whoever ends a task locks no run.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from meshwright_common import context
from meshwright_common.context import CallContext
from meshwright_common.encryption import KeyRing, TenantKeys
from meshwright_common.events import audit
from meshwright_common.resilience.failpoints import failpoint
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import retry_conflicts, unit_of_work, unscoped
from meshwright_orchestrator.adapters import postgres_workflows, run_statements, workflow_rows
from meshwright_orchestrator.adapters.postgres_tasks import PostgresTasks
from meshwright_orchestrator.adapters.run_children import children_of
from meshwright_orchestrator.adapters.run_ends import announce_end
from meshwright_orchestrator.adapters.task_ends import SOURCE
from meshwright_orchestrator.adapters.task_rows import owner_record
from meshwright_orchestrator.domain.errors import CANCELLED, RequestIdReused
from meshwright_orchestrator.domain.models import TaskState
from meshwright_orchestrator.domain.workflows.errors import RunNotFound
from meshwright_orchestrator.domain.workflows.planner import end_run
from meshwright_orchestrator.domain.workflows.ports import (
    Change,
    Loaded,
    NewRun,
    RunFilter,
)
from meshwright_orchestrator.domain.workflows.progress import Progress, Run, StepRun


class PostgresRuns:
    """Runs: see the port. Times are the database's."""

    def __init__(self, database: Database, ring: KeyRing, tasks: PostgresTasks) -> None:
        self._database = database
        self._ring = ring
        self._tasks = tasks

    async def start(self, new: NewRun) -> Run:
        keys = await self._ring.keys_of(new.owner.tenant_id)
        async with unit_of_work(self._database, new.owner.tenant_id) as connection:
            return await start_on(connection, keys, new)

    async def known(self, new: NewRun) -> Run | None:
        keys = await self._ring.keys_of(new.owner.tenant_id)
        async with unit_of_work(self._database, new.owner.tenant_id) as connection:
            return await _by_request(connection, keys, new)

    async def read(self, tenant_id: str, run_id: str) -> Progress:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            row = await connection.fetchrow(run_statements.FIND, tenant_id, run_id)
            if row is None:
                raise RunNotFound
            return await _progress(connection, keys, row)

    async def list(self, tenant_id: str, wanted: RunFilter) -> Sequence[Run]:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(
                run_statements.LIST,
                tenant_id,
                wanted.subject,
                wanted.workflow_id or None,
                [state.value for state in wanted.states],
                wanted.schedule_id or None,
                wanted.before or None,
                wanted.limit,
            )
        return [workflow_rows.run_from(row, keys) for row in rows]

    async def pick(self, most: int, hold_seconds: float) -> Sequence[tuple[str, str]]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(
                "SELECT tenant_id, run_id FROM orchestrator.pick_runs($1, $2)", most, hold_seconds
            )
        return [(row["tenant_id"], row["run_id"]) for row in rows]

    async def load(self, tenant_id: str, run_id: str) -> Loaded | None:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            loaded = await _load(connection, keys, run_id)
        failpoint("run-read")
        return loaded

    async def change(self, change: Change) -> Sequence[str] | None:
        run = change.before.run
        keys = await self._ring.keys_of(run.tenant_id)

        async def write() -> Sequence[str] | None:
            async with unit_of_work(self._database, run.tenant_id) as connection:
                stopped = await self._write(connection, keys, change)
                failpoint("run-written")
            failpoint("run-committed")
            return stopped

        # Tasks may end at the same moment in which they are stopped.
        with context.bind(_acting(run)):
            return await retry_conflicts(write)

    async def prune(self, retention_days: int, limit: int) -> int:
        async with unscoped(self._database) as connection:
            deleted = await connection.fetchval(
                "SELECT orchestrator.prune_runs($1, $2)", timedelta(days=retention_days), limit
            )
        return int(deleted or 0)

    async def _write(
        self, connection: Connection, keys: TenantKeys, change: Change
    ) -> Sequence[str] | None:
        before, after = change.before, change.after
        run = after.run
        if not await _write_run(connection, keys, before, after, change.due_at):
            return None
        await _write_parts(connection, keys, before, after)
        for new_run in change.starts.runs:
            await start_on(connection, keys, new_run)
        task_ids = [new.task_id for new, _ in change.starts.tasks]
        for new, queueing in change.starts.tasks:
            await self._tasks.enqueue_on(connection, keys, new, queueing)
        if task_ids:
            await connection.execute(run_statements.OF_RUN, keys.tenant_id, task_ids, run.run_id)
        stopped = await self._stop(connection, keys, after.stopped)
        if run.ended_at is not None:
            await announce_end(connection, run)
        return stopped

    async def _stop(
        self, connection: Connection, keys: TenantKeys, children: Sequence[str]
    ) -> Sequence[str]:
        """Cancel runs and tasks; return the ids of the tasks."""
        if not children:
            return []
        rows = await connection.fetch(run_statements.CHILD_TASKS, keys.tenant_id, sorted(children))
        tasks = sorted(str(row["task_id"]) for row in rows)
        stopped = list(tasks)
        for run_id in sorted(set(children) - set(tasks)):
            stopped += await self._cancel_run(connection, keys, run_id)
        for task_id in tasks:
            await self._tasks.cancel_on(connection, keys, task_id)
        return stopped

    async def _cancel_run(
        self, connection: Connection, keys: TenantKeys, run_id: str
    ) -> Sequence[str]:
        locked = await connection.fetchval(
            "SELECT run_id FROM orchestrator.workflow_runs"
            " WHERE tenant_id = $1 AND run_id = $2 FOR NO KEY UPDATE",
            keys.tenant_id,
            run_id,
        )
        loaded = await _load(connection, keys, run_id) if locked is not None else None
        if loaded is None or loaded.progress.run.state.is_final:
            return ()
        before = loaded.progress
        after = end_run(before, TaskState.CANCELLED, CANCELLED, loaded.now)
        change = Change(before, after, due_at=loaded.now)
        return await self._write(connection, keys, change) or ()


def _acting(run: Run) -> CallContext:
    """Return the context in which a run does what its creator may do."""
    return CallContext(
        principal=run.owner, request_id=run.run_id, correlation_id=run.correlation_id
    )


async def start_on(connection: Connection, keys: TenantKeys, new: NewRun) -> Run:
    """Store a run in the open transaction of its tenant; one of this id or request_id is returned.

    Raises: RequestIdReused.
    """
    row = await connection.fetchrow(
        run_statements.START,
        keys.tenant_id,
        new.run_id,
        new.workflow_id,
        new.workflow_version,
        new.owner.subject,
        owner_record(new.owner),
        new.correlation_id,
        workflow_rows.sealed_of_run(keys, "input", new.run_id, new.input),
        new.request_id,
        _digest(keys, new),
        new.start_at,
        new.max_seconds,
        new.schedule_id or None,
        new.parent_run_id or None,
        new.level,
    )
    if row is None:
        known = await _by_request(connection, keys, new)
        if known is not None:
            return known
        row = await connection.fetchrow(run_statements.FIND, keys.tenant_id, new.run_id)
        if row is None:
            raise RequestIdReused
        return workflow_rows.run_from(row, keys)
    await audit.record(
        connection,
        source=SOURCE,
        action="workflow.started",
        resource=f"workflow_run/{new.run_id}",
        details={"workflow_id": new.workflow_id, "version": new.workflow_version},
    )
    return workflow_rows.run_from(row, keys)


def _digest(keys: TenantKeys, new: NewRun) -> bytes:
    at = None if new.start_at is None else new.start_at.isoformat()
    return workflow_rows.digest_of(keys, new.workflow_id, dict(new.input), at)


async def _by_request(connection: Connection, keys: TenantKeys, new: NewRun) -> Run | None:
    """Raises: RequestIdReused."""
    if not new.request_id:
        return None
    row = await connection.fetchrow(
        run_statements.FIND_BY_REQUEST, keys.tenant_id, new.owner.subject, new.request_id
    )
    if row is None:
        return None
    if row["request_digest"] != _digest(keys, new):
        raise RequestIdReused
    return workflow_rows.run_from(row, keys)


async def _load(connection: Connection, keys: TenantKeys, run_id: str) -> Loaded | None:
    row = await connection.fetchrow(run_statements.FIND, keys.tenant_id, run_id)
    if row is None or row["ended_at"] is not None:
        return None
    stored = await connection.fetchrow(
        postgres_workflows.GET, keys.tenant_id, row["workflow_id"], row["workflow_version"]
    )
    if stored is None:
        return None
    definition = workflow_rows.workflow_from(stored, keys).definition
    progress = await _progress(connection, keys, row)
    # A step that was never written has not begun.
    pending = {step.name: StepRun(step.name) for step in definition.steps}
    progress = Progress(progress.run, {**pending, **progress.steps}, progress.items)
    children = await children_of(connection, keys, progress)
    return Loaded(definition, progress, children, row["now"])


async def _progress(connection: Connection, keys: TenantKeys, row: Record) -> Progress:
    run = workflow_rows.run_from(row, keys)
    steps = await connection.fetch(run_statements.STEPS, keys.tenant_id, run.run_id)
    items = await connection.fetch(run_statements.ITEMS, keys.tenant_id, run.run_id)
    stored = [workflow_rows.item_from(one, keys) for one in items]
    return Progress(
        run,
        {one["step"]: workflow_rows.step_from(one, keys) for one in steps},
        {item.key: item for item in stored},
    )


async def _write_run(
    connection: Connection,
    keys: TenantKeys,
    before: Progress,
    after: Progress,
    due_at: datetime | None,
) -> bool:
    run = after.run
    if before == after:
        rested = await connection.fetchval(
            run_statements.REST, keys.tenant_id, run.run_id, before.run.revision, due_at
        )
        return rested is not None
    written = await connection.fetchval(
        run_statements.WRITE,
        keys.tenant_id,
        run.run_id,
        before.run.revision,
        run.state.value,
        workflow_rows.sealed_of_run(keys, "output", run.run_id, run.output),
        workflow_rows.sealed_of_run(keys, "failure", run.run_id, run.failure),
        workflow_rows.usage_record(run.usage),
        None if run.ended_at is not None else due_at,
        run.ended_at,
    )
    return written is not None


async def _write_parts(
    connection: Connection, keys: TenantKeys, before: Progress, after: Progress
) -> None:
    mine = (keys.tenant_id, after.run.run_id)
    steps = [step for name, step in after.steps.items() if before.steps.get(name) != step]
    if steps:
        await connection.executemany(
            run_statements.WRITE_STEP,
            [(*mine, *workflow_rows.step_values(keys, mine[1], step)) for step in steps],
        )
    items = [item for key, item in after.items.items() if before.items.get(key) != item]
    if items:
        await connection.executemany(
            run_statements.WRITE_ITEM,
            [(*mine, *workflow_rows.item_values(keys, mine[1], item)) for item in items],
        )
