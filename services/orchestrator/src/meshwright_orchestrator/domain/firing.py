"""Firing: looks at schedules that are due, and starts their runs under the rights of now."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

from meshwright_common.context import CallContext, Principal, bind, new_traceparent
from meshwright_common.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
)
from meshwright_common.ids import new_id
from meshwright_orchestrator.domain.ports import Quotas
from meshwright_orchestrator.domain.schedule_desk import refuse_without_right
from meshwright_orchestrator.domain.schedules import (
    Rights,
    Run,
    Schedule,
    Schedules,
    TaskRun,
    WorkflowStart,
    WorkflowTarget,
    decide,
    timed_id,
)
from meshwright_orchestrator.domain.tasks import TaskDesk

REFUSED_SECONDS: Final = 30.0
"""A schedule whose tenant is suspended, or has no quota left, is looked at again after this."""
_PASSING: Final = frozenset({"TENANT_SUSPENDED", "QUOTA_EXCEEDED"})


class Firing:
    """Decides about one schedule at a time. `started` is called after each run that was stored."""

    def __init__(
        self,
        *,
        schedules: Schedules,
        rights: Rights,
        quotas: Quotas,
        desk: TaskDesk,
        started: Callable[[], None],
    ) -> None:
        self._schedules = schedules
        self._rights = rights
        self._quotas = quotas
        self._desk = desk
        self._started = started

    async def attend(self, tenant_id: str, schedule_id: str) -> datetime | None:
        """Do what is due; return the moment that was fired for, if any.

        What cannot start its work any more is paused; what may not now is looked at again later.
        Raises: Unavailable, DeadlineExceeded, and nothing has changed.
        """
        look = await self._schedules.look(tenant_id, schedule_id)
        if look is None:
            return None
        decision = decide(look)
        schedule = look.schedule
        if decision.fires is None:
            await self._schedules.settle(schedule, decision, None)
            return None
        try:
            owner = await self._owner(schedule)
            with bind(_acting(owner, schedule, decision.fires)):
                run = await self._run(schedule, owner, decision.fires)
                if not await self._schedules.settle(schedule, decision, run):
                    return None
        except (QuotaExceeded, FailedPrecondition) as refusal:
            if refusal.reason not in _PASSING:
                raise
            await self._schedules.postpone(schedule, REFUSED_SECONDS)
        except (PermissionDenied, NotFound, InvalidArgument, AlreadyExists) as hindrance:
            await self._schedules.stop(schedule, hindrance.reason)
        else:
            self._started()
            return decision.fires
        return None

    async def _owner(self, schedule: Schedule) -> Principal:
        user = await self._rights.of(schedule.tenant_id, schedule.created_by)
        if schedule.granted is not None:
            user = replace(user, permissions=user.permissions & schedule.granted)
        refuse_without_right(user.permissions, schedule.target)
        await self._quotas.admit(schedule.tenant_id)
        return user

    async def _run(self, schedule: Schedule, owner: Principal, moment: datetime) -> Run:
        run_id = timed_id(moment, schedule.schedule_id)
        request_id = f"schedule/{schedule.schedule_id}/{int(moment.timestamp())}"
        if isinstance(schedule.target, WorkflowTarget):
            return WorkflowStart(run_id, owner, schedule.target, request_id, schedule.schedule_id)
        return TaskRun(*await self._desk.prepare(owner, schedule.target, request_id, run_id))


def _acting(owner: Principal, schedule: Schedule, moment: datetime) -> CallContext:
    """Return the context of a run: its audit records and its trace begin here."""
    return CallContext(
        principal=owner,
        request_id=new_id(),
        correlation_id=timed_id(moment, schedule.schedule_id),
        traceparent=new_traceparent(),
    )
