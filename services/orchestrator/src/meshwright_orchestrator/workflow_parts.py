"""Workflows, put together over the stored tasks: a part of the composition root."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from meshwright_common.app import BackgroundTask
from meshwright_common.encryption import KeyRing
from meshwright_common.storage.postgres import Database
from meshwright_orchestrator.adapters.cel import Cel
from meshwright_orchestrator.adapters.postgres_runs import PostgresRuns
from meshwright_orchestrator.adapters.postgres_tasks import PostgresTasks
from meshwright_orchestrator.adapters.postgres_workflows import PostgresWorkflows
from meshwright_orchestrator.adapters.workflow_starts import ScheduledStarts
from meshwright_orchestrator.domain.ports import Quotas
from meshwright_orchestrator.domain.workflows.desk import WorkflowDesk
from meshwright_orchestrator.domain.workflows.driver import Calls, RunDriver
from meshwright_orchestrator.domain.workflows.starting import Door, Starter
from meshwright_orchestrator.workers.run_drivers import RunDrivers


@dataclass(frozen=True, slots=True)
class WorkflowParts:
    """What the service needs of workflows. `starts` are for schedules."""

    desk: WorkflowDesk
    starts: ScheduledStarts
    tasks: tuple[BackgroundTask, ...]


def workflow_parts(  # noqa: PLR0913 - one argument for each thing that workflows work with
    database: Database,
    ring: KeyRing,
    tasks: PostgresTasks,
    *,
    cel: Cel,
    quotas: Quotas,
    door: Door,
    calls: Calls,
    started: Callable[[], None],
    begun: asyncio.Event,
    hold_seconds: float,
    retention_days: int,
) -> WorkflowParts:
    """Build workflows over the stored tasks. `started` is called when tasks wait for workers."""
    workflows = PostgresWorkflows(database, ring)
    runs = PostgresRuns(database, ring, tasks)
    driver = RunDriver(
        runs=runs,
        starter=Starter(workflows, door, cel),
        calls=calls,
        expressions=cel,
        started=started,
        begun=begun.set,
    )
    drivers = RunDrivers(
        runs, driver, begun, hold_seconds=hold_seconds, retention_days=retention_days
    )
    desk = WorkflowDesk(
        workflows=workflows,
        runs=runs,
        calls=calls,
        expressions=cel,
        quotas=quotas,
        begun=begun,
    )
    return WorkflowParts(
        desk,
        ScheduledStarts(workflows),
        (
            BackgroundTask("workflow-runs", drivers.run),
            BackgroundTask("old-workflow-runs", drivers.forget_old),
        ),
    )
