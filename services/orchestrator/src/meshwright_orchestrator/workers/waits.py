"""Brings what tasks wait for when its time has come: ends of sleep, questions nobody answered."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from meshwright_common.errors import ServiceError
from meshwright_orchestrator.domain.waits import Waits

logger = structlog.get_logger(__name__)

BATCH: Final = 200


class WaitSweeper:
    """Looks for waiting tasks with something that is due. `woken` is called when one was woken.

    Any number of processes may: each task is looked at again under its lock.
    """

    def __init__(self, waits: Waits, woken: Callable[[], None], *, every_seconds: float) -> None:
        self._waits = waits
        self._woken = woken
        self._every_seconds = every_seconds

    async def run(self) -> None:
        """Look for as long as this process lives."""
        while True:
            try:
                await self._sweep()
            except ServiceError as error:
                logger.warning("wait_sweep_failed", reason=error.reason)
            await asyncio.sleep(self._every_seconds)

    async def _sweep(self) -> None:
        for tenant_id, task_id in await self._waits.due(BATCH):
            if await self._waits.bring_due(tenant_id, task_id):
                logger.info("task_woken", tenant_id=tenant_id, task_id=task_id)
                self._woken()
        for tenant_id, task_id in await self._waits.overdue(BATCH):
            if await self._waits.expire(tenant_id, task_id):
                logger.info("task_expired_waiting", tenant_id=tenant_id, task_id=task_id)
