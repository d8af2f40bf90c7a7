"""Tells everybody who listens how loaded this process is (exchange agent_status)."""

import asyncio
from typing import Final, Literal

import structlog

from meshwright_common.dispatch.status import AgentStatus, StatusBoard
from meshwright_common.errors import ServiceError
from meshwright_common.ids import new_id
from meshwright_common.registry.load import LoadMeter

logger = structlog.get_logger(__name__)

NAME: Final = "orchestrator"
"""The name under which the built-in agents' workers speak."""


class StatusTeller:
    """Speaks for one process."""

    def __init__(self, board: StatusBoard, meter: LoadMeter, *, every_seconds: float) -> None:
        self._board = board
        self._meter = meter
        self._every_seconds = every_seconds
        self._instance = new_id()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Say good-bye and end."""
        self._stopping.set()

    async def run(self) -> None:
        """Tell the status now and then; the last word is "draining"."""
        while not self._stopping.is_set():
            await self._tell("online")
            try:
                async with asyncio.timeout(self._every_seconds):
                    await self._stopping.wait()
            except TimeoutError:
                continue
        await self._tell("draining")

    async def _tell(self, status: Literal["online", "draining"]) -> None:
        load = self._meter.read()
        try:
            await self._board.publish(
                AgentStatus(
                    agent_instance_id=self._instance,
                    agent=NAME,
                    status=status,
                    weight=load.weight,
                    cpu_free=load.cpu_free,
                    memory_free=load.memory_free,
                    pending_tasks=load.pending,
                    error_rate=load.error_rate,
                )
            )
        except ServiceError as error:
            # The next one says it all again.
            logger.debug("agent_status_not_told", reason=error.reason)
