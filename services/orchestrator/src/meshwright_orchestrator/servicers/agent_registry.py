"""AgentRegistryService: which agents there are."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeAlias

import grpc.aio

from meshwright.orchestrator.v1 import agent_pb2, agent_registry_service_pb2
from meshwright.orchestrator.v1.agent_registry_service_pb2_grpc import AgentRegistryServiceServicer
from meshwright.types.v1 import page_pb2
from meshwright_common.context import principal
from meshwright_common.errors import ServiceError
from meshwright_orchestrator.domain.agent_directory import AgentDirectory
from meshwright_orchestrator.domain.ports import Tools
from meshwright_orchestrator.servicers.agent_definitions import DefinitionCalls
from meshwright_orchestrator.servicers.joined_agents import JoinedCalls
from meshwright_orchestrator.wire import agents, pages
from meshwright_orchestrator.wire.definitions import definable_types

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class AgentRegistryServicer(AgentRegistryServiceServicer):
    """Serves AgentRegistryService."""

    def __init__(
        self,
        directory: AgentDirectory,
        tools: Tools,
        definitions: DefinitionCalls,
        joined: JoinedCalls,
    ) -> None:
        self._directory = directory
        self._tools = tools
        self._definitions = definitions
        self._joined = joined

    async def ListAgents(
        self,
        request: agent_registry_service_pb2.ListAgentsRequest,
        context: Context,
    ) -> agent_registry_service_pb2.ListAgentsResponse:
        """List the agents by name; the page token is the last name seen."""
        agents.check_types(request.types)
        scope = (principal().tenant_id, *map(str, sorted(request.types)))
        size, last = pages.page_of(request.page, *scope)
        along = await self._along(last, request.types)
        defined = await self._defined(last, request.types, size + 1)
        joined = await self._joined_agents(last, request.types, size + 1)
        found = sorted([*along, *defined, *joined], key=lambda agent: agent.name)
        token = pages.page_token(found[size - 1].name, *scope) if len(found) > size else ""
        return agent_registry_service_pb2.ListAgentsResponse(
            agents=found[:size], page=page_pb2.PageInfo(next_page_token=token)
        )

    async def _along(self, last: str, types: Sequence[int]) -> list[agent_pb2.Agent]:
        """Return the agents that come with the platform."""
        graphs = await self._directory.graphs()
        messages = [agents.builtin_message(spec) for spec in self._directory.builtin.all()]
        messages.extend(agents.graph_message(name, text) for name, text in graphs.items())
        return [
            agent for agent in messages if agent.name > last and (not types or agent.type in types)
        ]

    async def _defined(
        self, last: str, types: Sequence[int], limit: int
    ) -> Sequence[agent_pb2.Agent]:
        wanted = definable_types(types)
        if types and not wanted:
            return ()
        return await self._definitions.list(after=last, types=wanted, limit=limit)

    async def _joined_agents(
        self, last: str, types: Sequence[int], limit: int
    ) -> Sequence[agent_pb2.Agent]:
        if types and agent_pb2.AGENT_TYPE_REMOTE not in types:
            return ()
        return await self._joined.list(after=last, limit=limit)

    async def RegisterAgent(
        self, request: agent_registry_service_pb2.RegisterAgentRequest, context: Context
    ) -> agent_registry_service_pb2.RegisterAgentResponse:
        """Let a program work as an agent."""
        return await self._joined.register(request)

    async def UpdateStatus(
        self,
        request_iterator: AsyncIterator[agent_registry_service_pb2.UpdateStatusRequest],
        context: Context,
    ) -> agent_registry_service_pb2.UpdateStatusResponse:
        """Take in the heartbeats of an instance."""
        return await self._joined.update_status(request_iterator)

    async def GetAgent(
        self, request: agent_registry_service_pb2.GetAgentRequest, context: Context
    ) -> agent_registry_service_pb2.GetAgentResponse:
        """Read one agent; the tools in its definition are those that the caller may use."""
        graphs = await self._directory.graphs()
        if request.name in graphs:
            message = agents.graph_message(request.name, graphs[request.name])
        elif request.name in self._directory.builtin:
            spec = self._directory.builtin.find(request.name)
            message = agents.builtin_message(spec)
            message.definition.CopyFrom(agents.definition_message(spec, await self._tool_names()))
        elif (found := await self._joined.get(request.name)) is not None:
            return found
        else:
            message = await self._definitions.get(request.name)
        return agent_registry_service_pb2.GetAgentResponse(agent=message)

    async def _tool_names(self) -> list[str]:
        try:
            return [offer.name for offer in await self._tools.offered()]
        except ServiceError:
            # Without a right to read tools, or without tool-exec, none can be named.
            return []

    async def DefineAgent(
        self, request: agent_registry_service_pb2.DefineAgentRequest, context: Context
    ) -> agent_registry_service_pb2.DefineAgentResponse:
        """Define an agent, or its next version."""
        return await self._definitions.define(request)

    async def ListAgentVersions(
        self, request: agent_registry_service_pb2.ListAgentVersionsRequest, context: Context
    ) -> agent_registry_service_pb2.ListAgentVersionsResponse:
        """List the versions of a defined agent."""
        return await self._definitions.versions(request)

    async def RollbackAgent(
        self, request: agent_registry_service_pb2.RollbackAgentRequest, context: Context
    ) -> agent_registry_service_pb2.RollbackAgentResponse:
        """Give all new tasks to a version."""
        return await self._definitions.roll_back(request)
