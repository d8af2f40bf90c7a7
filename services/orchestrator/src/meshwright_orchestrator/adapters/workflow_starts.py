"""Runs that schedules start, in the transaction of the firing."""

from meshwright_common.encryption import TenantKeys
from meshwright_common.storage.postgres import Connection
from meshwright_orchestrator.adapters import postgres_workflows, workflow_rows
from meshwright_orchestrator.adapters.postgres_runs import start_on
from meshwright_orchestrator.adapters.postgres_workflows import PostgresWorkflows
from meshwright_orchestrator.domain.schedules import WorkflowStart
from meshwright_orchestrator.domain.workflows.errors import WorkflowNotFound
from meshwright_orchestrator.domain.workflows.ports import NewRun


class ScheduledStarts:
    """The workflows that schedules name: see the ports of schedules."""

    def __init__(self, workflows: PostgresWorkflows) -> None:
        self._workflows = workflows

    async def require(self, tenant_id: str, workflow_id: str) -> None:
        """Raises: WorkflowNotFound."""
        await self._workflows.get(tenant_id, workflow_id)

    async def start_on(self, connection: Connection, keys: TenantKeys, start: WorkflowStart) -> str:
        """Store a run of the newest version, once for its run_id. Raises: WorkflowNotFound."""
        row = await connection.fetchrow(
            postgres_workflows.GET, keys.tenant_id, start.target.workflow_id, 0
        )
        if row is None:
            raise WorkflowNotFound
        workflow = workflow_rows.workflow_from(row, keys)
        new = NewRun(
            run_id=start.run_id,
            owner=start.owner,
            workflow_id=workflow.workflow_id,
            workflow_version=workflow.version,
            input=start.target.input or {},
            max_seconds=workflow.definition.max_seconds,
            correlation_id=start.run_id,
            request_id=start.request_id,
            schedule_id=start.schedule_id,
        )
        run = await start_on(connection, keys, new)
        return run.run_id

    async def is_final(self, connection: Connection, tenant_id: str, run_id: str) -> bool:
        """Return whether the run has ended, or is there no more."""
        open_run = await connection.fetchval(
            "SELECT run_id FROM orchestrator.workflow_runs"
            " WHERE tenant_id = $1 AND run_id = $2 AND ended_at IS NULL",
            tenant_id,
            run_id,
        )
        return open_run is None
