"""Looks for schedules that are due, every second. Any number of processes may do so at once."""

import asyncio
from typing import Final

import structlog

from meshwright_common.clock import SystemClock
from meshwright_common.errors import ServiceError
from meshwright_orchestrator.domain.firing import Firing
from meshwright_orchestrator.domain.schedules import Schedules
from meshwright_orchestrator.workers import metrics

logger = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 1.0
BATCH: Final = 256
AT_ONCE: Final = 8
"""Schedules that are attended to at the same time: one that waits for its directory's answer holds
up few others."""


class Scheduler:
    """Attends to what is due."""

    def __init__(self, schedules: Schedules, firing: Firing) -> None:
        self._schedules = schedules
        self._firing = firing
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Fire for as long as this process lives."""
        while True:
            try:
                due = await self._schedules.due(BATCH)
            except ServiceError as error:
                logger.warning("schedules_not_read", reason=error.reason)
                due = ()
            async with asyncio.TaskGroup() as group:
                for tenant_id, schedule_id in due:
                    group.create_task(self._attend(tenant_id, schedule_id))
            await asyncio.sleep(LOOK_SECONDS)

    async def _attend(self, tenant_id: str, schedule_id: str) -> None:
        async with self._slots:
            try:
                fired = await self._firing.attend(tenant_id, schedule_id)
            except ServiceError as error:
                # It stays due: the next look, here or elsewhere, tries again.
                metrics.SCHEDULE_FAILURES.inc()
                logger.warning(
                    "schedule_not_attended",
                    tenant_id=tenant_id,
                    schedule_id=schedule_id,
                    reason=error.reason,
                )
                return
        if fired is not None:
            metrics.SCHEDULE_RUNS.inc()
            late = SystemClock().now() - fired
            metrics.SCHEDULE_DELAY_SECONDS.observe(max(late.total_seconds(), 0.0))
            logger.info(
                "schedule_fired",
                tenant_id=tenant_id,
                schedule_id=schedule_id,
                moment=fired.isoformat(),
            )
