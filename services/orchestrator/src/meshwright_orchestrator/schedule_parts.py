"""The composition of schedules: what serves their calls, and what fires them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshwright_common.app import BackgroundTask
from meshwright_common.clock import Clock
from meshwright_common.encryption import KeyRing
from meshwright_common.storage.postgres import Database
from meshwright_orchestrator.adapters.directory_client import DirectoryClient
from meshwright_orchestrator.adapters.postgres_schedules import PostgresSchedules, WorkflowRuns
from meshwright_orchestrator.adapters.postgres_tasks import PostgresTasks
from meshwright_orchestrator.domain.agent_directory import AgentDirectory
from meshwright_orchestrator.domain.backlog import Backlog
from meshwright_orchestrator.domain.firing import Firing
from meshwright_orchestrator.domain.ports import Quotas
from meshwright_orchestrator.domain.schedule_desk import ScheduleDesk
from meshwright_orchestrator.domain.schedules import Workflows
from meshwright_orchestrator.domain.tasks import TaskDesk
from meshwright_orchestrator.servicers.schedules import ScheduleCalls
from meshwright_orchestrator.workers.scheduler import Scheduler

if TYPE_CHECKING:
    from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceAsyncStub


@dataclass(frozen=True, slots=True)
class ScheduleParts:
    """What the composition root registers and runs."""

    calls: ScheduleCalls
    task: BackgroundTask


def schedule_parts(  # noqa: PLR0913 - one argument for each thing that schedules work with
    database: Database,
    ring: KeyRing,
    tasks: PostgresTasks,
    *,
    directory: "DirectoryServiceAsyncStub",
    quotas: Quotas,
    desk: TaskDesk,
    agents: AgentDirectory,
    backlog: Backlog,
    clock: Clock,
    most: int,
    workflows: Workflows | None = None,
    workflow_runs: WorkflowRuns | None = None,
) -> ScheduleParts:
    """Build schedules over the stored tasks. `most`: how many a tenant may have."""
    schedules = PostgresSchedules(database, ring, tasks, workflow_runs, most=most)
    rights = DirectoryClient(directory)
    firing = Firing(
        schedules=schedules, rights=rights, quotas=quotas, desk=desk, started=backlog.stirred
    )
    scheduler = Scheduler(schedules, firing)
    calls = ScheduleCalls(
        ScheduleDesk(schedules=schedules, rights=rights, agents=agents, workflows=workflows), clock
    )
    return ScheduleParts(calls, BackgroundTask("scheduler", scheduler.run))
