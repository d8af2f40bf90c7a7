"""Drives the runs of workflows that something happened to, a few at a time.

Any number of processes does it: a run that one picked is held for a few seconds, and what is
written names the pick. Nothing is kept in this process.
"""

import asyncio
import contextlib
from typing import Final

import structlog

from meshwright_common.errors import ServiceError
from meshwright_orchestrator.domain.workflows.driver import RunDriver
from meshwright_orchestrator.domain.workflows.ports import Runs

logger = structlog.get_logger(__name__)

MOST_AT_ONCE: Final = 4
"""Runs driven at the same time. Their expressions may have to wait for each other, and all of them
are to be written while they are held.
"""
FIRST_LOOK_SECONDS: Final = 0.05
LONGEST_LOOK_SECONDS: Final = 1.0
"""Pauses between looks grow from the first to the longest while nothing happens."""
PRUNE_SECONDS: Final = 600.0
PRUNE_AT_ONCE: Final = 500


class RunDrivers:
    """The loops of one process. `begun` is set by whoever starts a run here.

    A run whose process died goes on after `hold_seconds`: longer than a pass over one takes.
    """

    def __init__(
        self,
        runs: Runs,
        driver: RunDriver,
        begun: asyncio.Event,
        *,
        hold_seconds: float,
        retention_days: int,
    ) -> None:
        self._runs = runs
        self._driver = driver
        self._begun = begun
        self._hold_seconds = hold_seconds
        self._retention_days = retention_days

    async def run(self) -> None:
        """Drive for as long as this process lives."""
        pause = FIRST_LOOK_SECONDS
        while True:
            self._begun.clear()
            try:
                picked = await self._runs.pick(MOST_AT_ONCE, self._hold_seconds)
            except ServiceError as error:
                logger.warning("runs_not_picked", reason=error.reason)
                picked, pause = (), LONGEST_LOOK_SECONDS
            if picked:
                pause = FIRST_LOOK_SECONDS
                async with asyncio.TaskGroup() as group:
                    for tenant_id, run_id in picked:
                        group.create_task(self._advance(tenant_id, run_id))
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._begun.wait()
                    pause = FIRST_LOOK_SECONDS
                    continue
            pause = min(pause * 1.25, LONGEST_LOOK_SECONDS)

    async def _advance(self, tenant_id: str, run_id: str) -> None:
        try:
            await self._driver.advance(tenant_id, run_id)
        except ServiceError as error:
            # The run is picked again when nobody holds it any more.
            logger.warning("run_not_driven", run_id=run_id, reason=error.reason)
        except Exception:  # house: broad-except: one broken run stops no other
            logger.exception("run_broke", run_id=run_id)

    async def forget_old(self) -> None:
        """Delete runs past their retention, for as long as this process lives."""
        while True:
            try:
                deleted = await self._runs.prune(self._retention_days, PRUNE_AT_ONCE)
            except ServiceError as error:
                logger.warning("old_runs_not_deleted", reason=error.reason)
                deleted = 0
            if deleted < PRUNE_AT_ONCE:
                await asyncio.sleep(PRUNE_SECONDS)
