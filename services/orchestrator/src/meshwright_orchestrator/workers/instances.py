"""Looks after the instances of agents that joined: who is silent, what to cancel, the numbers."""

import asyncio
from typing import Final

import structlog

from meshwright_common.dispatch.status import AgentStatus, StatusBoard
from meshwright_common.errors import ServiceError
from meshwright_orchestrator.domain.remote import AgentLoad, Instance, InstanceState
from meshwright_orchestrator.domain.remote_care import Cancelling, InstanceCare, Unfinished
from meshwright_orchestrator.workers import metrics

logger = structlog.get_logger(__name__)

BATCH: Final = 500
LONGEST_PAUSE_SECONDS: Final = 2.0
FORGET_SECONDS: Final = 3600.0
NO_LOAD: Final = AgentLoad(cpu_free=0.0, memory_free=0.0, pending=0, error_rate=0.0)


class InstanceTeller:
    """Tells everybody who listens how instances do (exchange agent_status)."""

    def __init__(self, board: StatusBoard) -> None:
        self._board = board

    async def tell(self, instance: Instance) -> None:
        """Tell how an instance does. What cannot be told now is told with its next heartbeat."""
        load = instance.load or NO_LOAD
        await self.publish(
            instance.instance_id, instance.agent, instance.state, instance.weight, load
        )

    async def publish(
        self, instance_id: str, agent: str, state: InstanceState, weight: int, load: AgentLoad
    ) -> None:
        """Do the same by the parts of it."""
        try:
            await self._board.publish(
                AgentStatus(
                    agent_instance_id=instance_id,
                    agent=agent,
                    status=state.value,
                    weight=weight,
                    cpu_free=load.cpu_free,
                    memory_free=load.memory_free,
                    pending_tasks=load.pending,
                    error_rate=load.error_rate,
                )
            )
        except ServiceError as error:
            logger.debug("agent_status_not_told", reason=error.reason)


class InstanceSweeper:
    """Looks every half heartbeat, and when `look_now` was called. Any number of processes may."""

    def __init__(
        self,
        instances: InstanceCare,
        programs: Cancelling,
        teller: InstanceTeller,
        *,
        heartbeat_seconds: float,
        offline_seconds: float,
        kept_seconds: float,
    ) -> None:
        self._instances = instances
        self._programs = programs
        self._teller = teller
        self._pause_seconds = min(heartbeat_seconds / 2, LONGEST_PAUSE_SECONDS)
        self._offline_seconds = offline_seconds
        self._kept_seconds = kept_seconds
        self._look = asyncio.Event()
        self._shown: set[tuple[str, str]] = set()

    def look_now(self) -> None:
        """Look at once: a task was broken off."""
        self._look.set()

    async def run(self) -> None:
        """Look for as long as this process lives."""
        loop = asyncio.get_running_loop()
        forget_at = loop.time()
        while True:
            try:
                await self._sweep()
                if loop.time() >= forget_at:
                    await self._instances.forget(self._kept_seconds)
                    forget_at = loop.time() + FORGET_SECONDS
            except ServiceError as error:
                logger.warning("agent_sweep_failed", reason=error.reason)
            try:
                async with asyncio.timeout(self._pause_seconds):
                    await self._look.wait()
            except TimeoutError:
                continue
            self._look.clear()

    async def _sweep(self) -> None:
        for silent in await self._instances.silence(self._offline_seconds, BATCH):
            logger.warning(
                "agent_instance_silent",
                agent_instance_id=silent.instance_id,
                agent=silent.agent,
                state=silent.state.value,
            )
            await self._teller.publish(
                silent.instance_id, silent.agent, silent.state, silent.weight, silent.load
            )
        unfinished = await self._instances.unfinished(BATCH)
        await asyncio.gather(*map(self._cancel, unfinished))
        await self._count()

    async def _cancel(self, task: Unfinished) -> None:
        try:
            await self._programs.cancel(
                task.address, task.tenant_id, task.remote_task_id or task.task_id
            )
        except ServiceError as error:
            # Its stream was ended; programs that know no more than that stop by it.
            logger.debug("remote_cancel_failed", task_id=task.task_id, reason=error.reason)
        else:
            logger.info("remote_task_cancelled", task_id=task.task_id)

    async def _count(self) -> None:
        counted = await self._instances.count()
        loads: dict[str, tuple[int, int]] = {}
        shown = set()
        for one in counted:
            shown.add((one.agent, one.state.value))
            metrics.AGENT_INSTANCES.labels(one.agent, one.state.value).set(one.instances)
            weight, pending = loads.get(one.agent, (0, 0))
            if one.state is InstanceState.ONLINE:
                weight += one.weight
            loads[one.agent] = (weight, pending + one.pending)
        for agent, (weight, pending) in loads.items():
            metrics.AGENT_WEIGHT.labels(agent).set(weight)
            metrics.AGENT_PENDING.labels(agent).set(pending)
        for agent, state in self._shown - shown:
            metrics.AGENT_INSTANCES.remove(agent, state)
        for agent in {agent for agent, _ in self._shown} - loads.keys():
            metrics.AGENT_WEIGHT.remove(agent)
            metrics.AGENT_PENDING.remove(agent)
        self._shown = shown
