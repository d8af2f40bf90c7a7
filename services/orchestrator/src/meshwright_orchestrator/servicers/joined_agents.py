"""Agents that join from outside: the calls of AgentRegistryService about them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from meshwright.orchestrator.v1 import agent_pb2
from meshwright.orchestrator.v1 import agent_registry_service_pb2 as pb
from meshwright_common.context import principal
from meshwright_common.errors import invalid
from meshwright_common.ids import parse_id
from meshwright_orchestrator.domain.remote import (
    Instance,
    Instances,
    Listeners,
    RemoteDesk,
    StreamReplaced,
)
from meshwright_orchestrator.wire import instances as wire


class JoinedCalls:
    """Serves the methods about agents that joined."""

    def __init__(
        self,
        desk: RemoteDesk,
        instances: Instances,
        listeners: Listeners,
        *,
        heartbeat_seconds: float,
    ) -> None:
        self._desk = desk
        self._instances = instances
        self._listeners = listeners
        self._heartbeat_seconds = heartbeat_seconds

    async def register(self, request: pb.RegisterAgentRequest) -> pb.RegisterAgentResponse:
        """Let a program work as an agent."""
        instance = await self._desk.register(principal(), wire.registration_from(request))
        await self._listeners.tell(instance)
        answer = pb.RegisterAgentResponse(instance=wire.instance_message(instance))
        answer.heartbeat_interval.FromTimedelta(timedelta(seconds=self._heartbeat_seconds))
        return answer

    async def update_status(
        self, requests: AsyncIterator[pb.UpdateStatusRequest]
    ) -> pb.UpdateStatusResponse:
        """Take in heartbeats until the program ends its side."""
        tenant_id = principal().tenant_id
        instance: Instance | None = None
        instance_id, epoch, draining = "", 0, False
        async for request in _with_pauses(requests, self._heartbeat_seconds):
            if request is None:
                # It says nothing; a newer stream may speak for it.
                if instance_id and not await self._instances.is_newest(
                    tenant_id, instance_id, epoch
                ):
                    raise StreamReplaced
                continue
            named = parse_id(request.agent_instance_id, "agent_instance_id")
            if instance_id and named != instance_id:
                raise invalid("agent_instance_id", "must be the same in all of a stream")
            instance_id, draining = named, draining or request.draining
            instance, epoch = await self._instances.beat(
                tenant_id, instance_id, epoch, wire.load_from(request), draining=draining
            )
            await self._listeners.tell(instance)
        if instance is None:
            raise invalid("agent_instance_id", "must be given: the stream had no heartbeat")
        if draining:
            instance = await self._instances.leave(tenant_id, instance_id, epoch)
            await self._listeners.tell(instance)
        return pb.UpdateStatusResponse(instance=wire.instance_message(instance))

    async def list(self, *, after: str, limit: int) -> Sequence[agent_pb2.Agent]:
        """Return agents of the tenant that joined, by name."""
        found = await self._instances.agents(principal().tenant_id, after=after, limit=limit)
        return [wire.remote_message(agent) for agent in found]

    async def get(self, name: str) -> pb.GetAgentResponse | None:
        """Return an agent that joined with its instances; None: no such agent joined."""
        tenant_id = principal().tenant_id
        agent = await self._instances.agent(tenant_id, name)
        if agent is None:
            return None
        found = await self._instances.of_agent(tenant_id, name)
        return pb.GetAgentResponse(
            agent=wire.remote_message(agent), instances=map(wire.instance_message, found)
        )


async def _with_pauses(
    requests: AsyncIterator[pb.UpdateStatusRequest], seconds: float
) -> AsyncIterator[pb.UpdateStatusRequest | None]:
    """Yield what comes, and None whenever nothing came for so long."""
    while True:
        # house: naked-task: ended and awaited below
        coming = asyncio.ensure_future(anext(requests, None))
        try:
            while not (await asyncio.wait({coming}, timeout=seconds))[0]:
                yield None
        finally:
            coming.cancel()
            await asyncio.wait({coming})
            if not coming.cancelled():
                # Looked at, also when nobody is left to raise it to.
                coming.exception()
        request = coming.result()
        if request is None:
            return
        yield request
