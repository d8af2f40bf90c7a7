"""The desk where schedules are made, listed, paused and removed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from meshwright_common.context import Principal
from meshwright_common.errors import PermissionDenied, invalid
from meshwright_common.ids import new_id
from meshwright_orchestrator.domain.agent_directory import AgentDirectory
from meshwright_orchestrator.domain.schedules import (
    MissedRuns,
    NewSchedule,
    NotForServices,
    Rights,
    Schedule,
    Schedules,
    Target,
    Workflows,
    WorkflowTarget,
)
from meshwright_orchestrator.domain.tasks import ADMIN
from meshwright_orchestrator.domain.timing import AnyOccurrences, Cron, Interval, Once, Timing

START_TASK: Final = "agent:execute"
START_WORKFLOW: Final = "workflow:execute"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller asks for, checked in itself. The start of an interval is counted anew."""

    name: str
    occurrences: AnyOccurrences
    target: Target
    missed_runs: MissedRuns
    start: datetime | None
    end: datetime | None
    paused: bool


class ScheduleDesk:
    """What callers may do with schedules."""

    def __init__(
        self,
        *,
        schedules: Schedules,
        rights: Rights,
        agents: AgentDirectory,
        workflows: Workflows | None,
    ) -> None:
        self._schedules = schedules
        self._rights = rights
        self._agents = agents
        self._workflows = workflows

    async def create(self, caller: Principal, wish: Wish, request_id: str) -> Schedule:
        """Store a schedule whose runs act for the caller; a known `request_id` returns its own.

        Raises: InvalidArgument, ScheduleExists, RequestIdReused, TooManySchedules, AgentNotFound,
        NotFound (WORKFLOW_NOT_FOUND), PermissionDenied, Unavailable.
        """
        if caller.kind != "user":
            raise NotForServices
        refuse_without_right(caller.permissions, wish.target)
        await self._require(caller.tenant_id, wish.target)
        user = await self._rights.of(caller.tenant_id, caller.subject)
        now = await self._schedules.now()
        timing = _timing(wish, now)
        first = timing.after(now)
        if first is None:
            raise invalid(_FIELDS[type(wish.occurrences)], _never(wish, now))
        return await self._schedules.add(
            NewSchedule(
                schedule_id=new_id(),
                tenant_id=caller.tenant_id,
                created_by=caller.subject,
                name=wish.name,
                timing=timing,
                target=wish.target,
                missed_runs=wish.missed_runs,
                start=wish.start,
                end=wish.end,
                paused=wish.paused,
                # A key that holds less than its user must not hand out more than it holds.
                granted=None if user.permissions <= caller.permissions else caller.permissions,
                first=first,
                made_at=now,
                request_id=request_id,
            )
        )

    async def _require(self, tenant_id: str, target: Target) -> None:
        if not isinstance(target, WorkflowTarget):
            await self._agents.require(tenant_id, target.agent)
        elif self._workflows is None:
            raise invalid("schedule.workflow", "workflows are not served here")
        else:
            await self._workflows.require(tenant_id, target.workflow_id)

    async def list(self, caller: Principal, *, after: str, limit: int) -> Sequence[Schedule]:
        """Return the schedules that the caller may see by name, those after the name `after`."""
        return await self._schedules.list(
            caller.tenant_id, _subject(caller), after=after, limit=limit
        )

    async def remove(self, caller: Principal, schedule_id: str) -> None:
        """Remove a schedule, if there is one that the caller may see."""
        await self._schedules.remove(caller.tenant_id, _subject(caller), schedule_id)

    async def set_paused(self, caller: Principal, schedule_id: str, *, paused: bool) -> Schedule:
        """Pause a schedule or let it go on. Raises: ScheduleNotFound."""
        return await self._schedules.set_paused(
            caller.tenant_id, _subject(caller), schedule_id, paused=paused
        )


def refuse_without_right(permissions: frozenset[str], target: Target) -> None:
    """Raises: PermissionDenied when these are not enough to start the target."""
    needed = START_WORKFLOW if isinstance(target, WorkflowTarget) else START_TASK
    if needed not in permissions:
        raise PermissionDenied(f"the permission {needed} is missing", permission=needed)


def _subject(caller: Principal) -> str:
    return "" if caller.has(ADMIN) else caller.subject


def _timing(wish: Wish, now: datetime) -> Timing:
    start = wish.start or now
    occurrences = wish.occurrences
    if isinstance(occurrences, Interval):
        occurrences = Interval(occurrences.every, start)
    return Timing(occurrences, start, wish.end)


_FIELDS: Final = {
    Cron: "schedule.cron",
    Interval: "schedule.interval",
    Once: "schedule.once",
}


def _never(wish: Wish, now: datetime) -> str:
    if isinstance(wish.occurrences, Once) and wish.occurrences.moment <= now:
        return "has passed"
    return "never fires between start_time, or now, and end_time"
