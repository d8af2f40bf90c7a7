"""What workflows need from outside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from meshwright_common.context import Principal
from meshwright_orchestrator.domain.conversation import JsonObject
from meshwright_orchestrator.domain.models import TaskState
from meshwright_orchestrator.domain.ports import NewTask, Queueing
from meshwright_orchestrator.domain.workflows.definition import Workflow, WorkflowDefinition
from meshwright_orchestrator.domain.workflows.progress import ChildEnd, Progress, Run


@dataclass(frozen=True, slots=True)
class NewWorkflow:
    """A version to store. `expected_version` None: not checked; 0: the workflow must be new."""

    name: str
    definition: WorkflowDefinition
    expected_version: int | None
    request_id: str


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to store. `start_at` None: now. `max_seconds` count from its start.

    `parent_run_id` and `level`: it does the work of a step of another run.
    """

    run_id: str
    owner: Principal
    workflow_id: str
    workflow_version: int
    input: JsonObject
    max_seconds: float
    correlation_id: str
    request_id: str = ""
    start_at: datetime | None = None
    schedule_id: str = ""
    parent_run_id: str = ""
    level: int = 1


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list, newest first. Empty fields do not filter."""

    subject: str = ""
    workflow_id: str = ""
    states: tuple[TaskState, ...] = ()
    schedule_id: str = ""
    before: str = ""
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Loaded:
    """A run as of one moment: `now` on the database's clock, and what its children did so far."""

    definition: WorkflowDefinition
    progress: Progress
    children: Mapping[str, ChildEnd]
    now: datetime


@dataclass(frozen=True, slots=True)
class Starts:
    """What begins with a change of a run, in the same transaction."""

    tasks: tuple[tuple[NewTask, Queueing], ...] = ()
    runs: tuple[NewRun, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a run that is still as `before` says. `due_at`: when to look at it again."""

    before: Progress
    after: Progress
    due_at: datetime | None
    starts: Starts = field(default_factory=Starts)


class Workflows(Protocol):
    """The stored workflows. Versions never change."""

    async def put(self, owner: Principal, new: NewWorkflow) -> Workflow:
        """Store the next version, unless it equals the newest one; return the newest.

        Raises: VersionConflict, RequestIdReused.
        """
        ...

    async def get(self, tenant_id: str, workflow_id: str, version: int = 0) -> Workflow:
        """Return a version, 0: the newest. Raises: WorkflowNotFound."""
        ...

    async def named(self, tenant_id: str, name: str) -> Workflow:
        """Return the newest version. Raises: WorkflowNotFound."""
        ...

    async def list(self, tenant_id: str, after: str, limit: int) -> Sequence[Workflow]:
        """Return the newest versions by name, those whose name is behind `after`."""
        ...


class Runs(Protocol):
    """The stored runs: the truth about what each has done."""

    async def start(self, new: NewRun) -> Run:
        """Store a run; a known request_id returns its run. Raises: RequestIdReused."""
        ...

    async def known(self, new: NewRun) -> Run | None:
        """Return the run that its request_id stands for. Raises: RequestIdReused."""
        ...

    async def read(self, tenant_id: str, run_id: str) -> Progress:
        """Return a run with its steps. Raises: RunNotFound."""
        ...

    async def list(self, tenant_id: str, wanted: RunFilter) -> Sequence[Run]:
        """Return runs, newest first."""
        ...

    async def pick(self, most: int, hold_seconds: float) -> Sequence[tuple[str, str]]:
        """Return (tenant_id, run_id) of runs that something happened to, or whose time has come.

        Nobody else gets them for `hold_seconds`, unless something more happens to them.
        """
        ...

    async def load(self, tenant_id: str, run_id: str) -> Loaded | None:
        """Return a run to work on; None when it is gone or has ended."""
        ...

    async def change(self, change: Change) -> Sequence[str] | None:
        """Write a change with all that begins and stops by it, all or nothing.

        Children that stop are fenced by it, those of runs below too. Returns the ids of the tasks
        among them; None: nothing was written, the run is no longer as it was read.
        """
        ...

    async def prune(self, retention_days: int, limit: int) -> int:
        """Delete up to `limit` runs that ended longer ago; return how many."""
        ...
