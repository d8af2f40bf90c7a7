"""The desk where workflows are stored, and runs are started, looked up and cancelled."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from meshwright_common.context import Principal, current
from meshwright_common.errors import Aborted, QuotaExceeded
from meshwright_common.ids import new_id
from meshwright_orchestrator.domain.conversation import JsonObject
from meshwright_orchestrator.domain.errors import CANCELLED
from meshwright_orchestrator.domain.models import TaskState
from meshwright_orchestrator.domain.ports import Quotas
from meshwright_orchestrator.domain.tasks import ADMIN
from meshwright_orchestrator.domain.workflows.definition import Workflow
from meshwright_orchestrator.domain.workflows.driver import Calls
from meshwright_orchestrator.domain.workflows.errors import RunNotFound
from meshwright_orchestrator.domain.workflows.expressions import Expressions
from meshwright_orchestrator.domain.workflows.inputs import check_input
from meshwright_orchestrator.domain.workflows.planner import end_run
from meshwright_orchestrator.domain.workflows.ports import (
    Change,
    NewRun,
    NewWorkflow,
    RunFilter,
    Runs,
    Workflows,
)
from meshwright_orchestrator.domain.workflows.progress import Progress, Run
from meshwright_orchestrator.domain.workflows.validation import check_definition, check_name

CANCEL_ATTEMPTS: Final = 20
"""A run that moves on while it is cancelled is read again."""


@dataclass(frozen=True, slots=True)
class Start:
    """A run to start. `version` 0: the newest. `start_at` None: now."""

    workflow_id: str
    version: int
    input: JsonObject
    request_id: str
    start_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A run with its steps, as its workflow's version defines them."""

    workflow: Workflow
    progress: Progress


class WorkflowDesk:
    """What callers may do with workflows. `begun` is set when there is something to drive."""

    def __init__(
        self,
        *,
        workflows: Workflows,
        runs: Runs,
        calls: Calls,
        expressions: Expressions,
        quotas: Quotas,
        begun: asyncio.Event,
    ) -> None:
        self._workflows = workflows
        self._runs = runs
        self._calls = calls
        self._expressions = expressions
        self._quotas = quotas
        self._begun = begun

    async def create(self, caller: Principal, new: NewWorkflow) -> Workflow:
        """Store a workflow's next version; return its newest.

        Raises: InvalidArgument naming the step, VersionConflict, RequestIdReused.
        """
        check_name(new.name)
        check_definition(new.definition, self._expressions)
        return await self._workflows.put(caller, new)

    async def get(self, caller: Principal, workflow_id: str, version: int) -> Workflow:
        """Return a version of a workflow, 0: the newest. Raises: WorkflowNotFound."""
        return await self._workflows.get(caller.tenant_id, workflow_id, version)

    async def list(self, caller: Principal, after: str, limit: int) -> Sequence[Workflow]:
        """Return the newest versions by name, those behind the name `after`."""
        return await self._workflows.list(caller.tenant_id, after, limit)

    async def start(self, caller: Principal, start: Start) -> Shown:
        """Store a run that the drivers take on; a known request_id returns its run.

        Raises: WorkflowNotFound, InvalidArgument, RequestIdReused, QuotaExceeded;
        FailedPrecondition (TENANT_SUSPENDED).
        """
        workflow = await self._workflows.get(caller.tenant_id, start.workflow_id, start.version)
        check_input(start.input, workflow.definition.input_schema)
        new = new_run(caller, workflow, start)
        try:
            await self._quotas.admit(caller.tenant_id)
        except QuotaExceeded:
            run = await self._runs.known(new)
            if run is None:
                raise
        else:
            run = await self._runs.start(new)
            self._begun.set()
        return await self._shown(run.tenant_id, run.run_id)

    async def run(self, caller: Principal, run_id: str) -> Shown:
        """Return a run that the caller may see. Raises: RunNotFound."""
        shown = await self._shown(caller.tenant_id, run_id)
        owner = shown.progress.run.owner
        if owner.subject != caller.subject and not caller.has(ADMIN):
            raise RunNotFound
        return shown

    async def list_runs(self, caller: Principal, wanted: RunFilter) -> Sequence[Run]:
        """Return runs that the caller may see, newest first."""
        return await self._runs.list(caller.tenant_id, wanted)

    async def cancel(self, caller: Principal, run_id: str) -> Shown:
        """Stop a run; returns when nothing more can start for its steps. Raises: RunNotFound."""
        for _ in range(CANCEL_ATTEMPTS):
            shown = await self.run(caller, run_id)
            if shown.progress.run.state.is_final:
                return shown
            loaded = await self._runs.load(caller.tenant_id, run_id)
            if loaded is None or loaded.progress.run.state.is_final:
                continue
            before = loaded.progress
            after = end_run(before, TaskState.CANCELLED, CANCELLED, loaded.now)
            stopped = await self._runs.change(Change(before, after, due_at=loaded.now))
            if stopped is not None:
                for task_id in stopped:
                    await self._calls.cancel(task_id)
                self._begun.set()
                return await self.run(caller, run_id)
        raise Aborted("the run moves on faster than it can be cancelled: try again")

    async def _shown(self, tenant_id: str, run_id: str) -> Shown:
        progress = await self._runs.read(tenant_id, run_id)
        run = progress.run
        workflow = await self._workflows.get(tenant_id, run.workflow_id, run.workflow_version)
        return Shown(workflow, progress)


def new_run(owner: Principal, workflow: Workflow, start: Start) -> NewRun:
    """Return what is stored of a run that somebody starts."""
    run_id = new_id()
    return NewRun(
        run_id=run_id,
        owner=owner,
        workflow_id=workflow.workflow_id,
        workflow_version=workflow.version,
        input=start.input,
        max_seconds=workflow.definition.max_seconds,
        correlation_id=current().correlation_id or run_id,
        request_id=start.request_id,
        start_at=start.start_at,
    )
