"""Schedules: what they start, when, under whose rights, and what becomes of missed firings."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol, TypeAlias

from meshwright_common.context import Principal
from meshwright_common.errors import (
    AlreadyExists,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from meshwright_orchestrator.domain.conversation import JsonObject
from meshwright_orchestrator.domain.models import TaskSpec
from meshwright_orchestrator.domain.ports import NewTask, Queueing
from meshwright_orchestrator.domain.timing import Timing

ON_TIME: Final = timedelta(seconds=30)
"""A firing that is found later than this was missed."""


class ScheduleNotFound(NotFound):
    """No such schedule for this caller. Somebody else's looks the same."""

    reason = "SCHEDULE_NOT_FOUND"
    text = "there is no schedule with this id"


class ScheduleExists(AlreadyExists):
    """The name is taken in the tenant."""

    text = "there is a schedule named {name}"


class TooManySchedules(ResourceExhausted):
    """The tenant has as many schedules as it may."""

    text = "the tenant has {limit} schedules, and may have no more"


class NotForServices(PermissionDenied):
    """A schedule acts for a user; the caller is a service."""

    text = "a schedule acts for a user: services cannot make one"


class UserGone(PermissionDenied):
    """The user whose rights the runs have is disabled or erased."""

    text = "the user that made the schedule may do nothing any more"


class MissedRuns(StrEnum):
    """What happens to missed firings, as orchestrator/v1/schedule.proto describes it."""

    LATEST = "latest"
    SKIP = "skip"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class WorkflowTarget:
    """A workflow to start: its newest version at the time of the firing."""

    workflow_id: str
    input: JsonObject | None = None


Target: TypeAlias = TaskSpec | WorkflowTarget


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """A schedule to store. `granted`: the rights its runs have at most; None: the user's.

    `start` and `end` as the caller gave them; without a start it counts from `made_at`.
    """

    schedule_id: str
    tenant_id: str
    created_by: str
    name: str
    timing: Timing
    target: Target
    missed_runs: MissedRuns
    start: datetime | None
    end: datetime | None
    paused: bool
    granted: frozenset[str] | None
    first: datetime
    made_at: datetime
    request_id: str


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as stored. `due`: its first firing that nothing was decided about; None: its end.

    `pause_reason`: why the platform paused it; empty when it did not.
    """

    tenant_id: str
    schedule_id: str
    name: str
    created_by: str
    timing: Timing
    target: Target
    missed_runs: MissedRuns
    start: datetime | None
    end: datetime | None
    paused: bool
    pause_reason: str
    granted: frozenset[str] | None
    due: datetime | None
    last_run_at: datetime | None
    last_run_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Look:
    """A schedule as of a moment of the database's clock. `at_work`: its last run has not ended."""

    schedule: Schedule
    now: datetime
    at_work: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do: `fires` is the moment to fire for, if any; `due` what is undecided from then on.

    `waits`: the run before is still at work and has to end first.
    """

    fires: datetime | None
    due: datetime | None
    waits: bool = False


@dataclass(frozen=True, slots=True)
class TaskRun:
    """A task to store."""

    new: NewTask
    queueing: Queueing

    @property
    def run_id(self) -> str:
        """Id of what is started."""
        return self.new.task_id


@dataclass(frozen=True, slots=True)
class WorkflowStart:
    """A run of a workflow to store."""

    run_id: str
    owner: Principal
    target: WorkflowTarget
    request_id: str
    schedule_id: str


Run: TypeAlias = TaskRun | WorkflowStart


def decide(look: Look) -> Decision:
    """Return what is to be done about the firings up to now. Pure."""
    schedule, now = look.schedule, look.now
    if schedule.due is None or schedule.due > now:
        return Decision(None, schedule.due)
    missed = schedule.timing.between(schedule.due, now)
    following = schedule.timing.after(now)
    if not missed:
        return Decision(None, following)
    if schedule.missed_runs is MissedRuns.SKIP:
        is_on_time = now - missed[-1] <= ON_TIME and not look.at_work
        return Decision(missed[-1] if is_on_time else None, following)
    if schedule.missed_runs is MissedRuns.LATEST:
        missed = missed[-1:]
    if look.at_work:
        return Decision(None, missed[0], waits=True)
    return Decision(missed[0], missed[1] if len(missed) > 1 else following)


def timed_id(moment: datetime, *parts: str) -> str:
    """Return the id of what happens at `moment` for `parts`: always the same UUID.

    Of version 7 by its form (RFC 9562), with bits of a hash where it has random ones: lists that
    are sorted by id stay in the order of time.
    """
    milliseconds = int(moment.timestamp() * 1000) & 0xFFFF_FFFF_FFFF
    digest = hashlib.sha256("\0".join((moment.isoformat(), *parts)).encode()).digest()
    value = milliseconds << 80 | int.from_bytes(digest[:10])
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0b11 << 62) | 0b10 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Rights(Protocol):
    """What users may do, as the directory says at this moment."""

    async def of(self, tenant_id: str, user_id: str) -> Principal:
        """Return the user with all rights of now.

        Raises: UserGone; FailedPrecondition (TENANT_SUSPENDED); Unavailable, DeadlineExceeded.
        """
        ...


class Workflows(Protocol):
    """The workflows of tenants."""

    async def require(self, tenant_id: str, workflow_id: str) -> None:
        """Raises: NotFound (WORKFLOW_NOT_FOUND)."""
        ...


class Schedules(Protocol):
    """The stored schedules. `subject`: only that user's; empty: all of the tenant."""

    async def now(self) -> datetime:
        """Return the time of the database's clock."""
        ...

    async def add(self, new: NewSchedule) -> Schedule:
        """Store a schedule; with a known request_id return the one it made.

        Raises: ScheduleExists, RequestIdReused, TooManySchedules.
        """
        ...

    async def list(
        self, tenant_id: str, subject: str, *, after: str, limit: int
    ) -> Sequence[Schedule]:
        """Return schedules by name, those after the name `after`."""
        ...

    async def remove(self, tenant_id: str, subject: str, schedule_id: str) -> None:
        """Remove a schedule if it is there."""
        ...

    async def set_paused(
        self, tenant_id: str, subject: str, schedule_id: str, *, paused: bool
    ) -> Schedule:
        """Pause a schedule or let it go on. Raises: ScheduleNotFound."""
        ...

    async def due(self, most: int) -> Sequence[tuple[str, str]]:
        """Return (tenant_id, schedule_id) of schedules that have something to decide."""
        ...

    async def look(self, tenant_id: str, schedule_id: str) -> Look | None:
        """Return a schedule to decide about; None when it is gone or paused."""
        ...

    async def settle(self, schedule: Schedule, decision: Decision, run: Run | None) -> bool:
        """Store a decision and start its run, all or nothing, unless somebody was first.

        Returns whether it was us. Raises: NotFound (WORKFLOW_NOT_FOUND).
        """
        ...

    async def postpone(self, schedule: Schedule, seconds: float) -> None:
        """Look at a schedule again after so many seconds."""
        ...

    async def stop(self, schedule: Schedule, reason: str) -> None:
        """Pause a schedule that cannot fire, with a notification of the administrators."""
        ...
