"""Agents that tenants define: the calls of AgentRegistryService about them."""

from collections.abc import Sequence
from typing import Final

from meshwright.orchestrator.v1 import agent_pb2
from meshwright.orchestrator.v1 import agent_registry_service_pb2 as pb
from meshwright.types.v1 import page_pb2
from meshwright_common.context import principal
from meshwright_common.errors import invalid
from meshwright_orchestrator.domain.agents import AgentType
from meshwright_orchestrator.domain.defining import AgentDesk
from meshwright_orchestrator.wire import definitions, pages

MAX_PAGE_BYTES: Final = 2 * 1024 * 1024
"""A page of long definitions ends early: a message has 4 MiB at most."""
_BEYOND: Final = 2**31 - 1


class DefinitionCalls:
    """Serves the methods about definitions."""

    def __init__(self, desk: AgentDesk) -> None:
        self._desk = desk

    async def define(self, request: pb.DefineAgentRequest) -> pb.DefineAgentResponse:
        """Define an agent, or its next version."""
        new = definitions.new_version_from(request)
        version = await self._desk.define(principal(), new)
        return pb.DefineAgentResponse(version=definitions.version_message(version))

    async def versions(self, request: pb.ListAgentVersionsRequest) -> pb.ListAgentVersionsResponse:
        """List the versions of an agent; the page token is the last one seen."""
        caller = principal()
        name = definitions.name_from(request.name)
        scope = (caller.tenant_id, name)
        size, last = pages.page_of(request.page, *scope)
        before = int(last) if last.isdecimal() else _BEYOND
        found = await self._desk.versions(caller, name, before=before, limit=size + 1)
        shown: list[agent_pb2.AgentVersion] = []
        room = MAX_PAGE_BYTES
        for version in found[:size]:
            message = definitions.version_message(version)
            room -= message.ByteSize()
            if shown and room < 0:
                break
            shown.append(message)
        more = len(found) > len(shown)
        token = pages.page_token(str(shown[-1].version), *scope) if more and shown else ""
        return pb.ListAgentVersionsResponse(
            versions=shown, page=page_pb2.PageInfo(next_page_token=token)
        )

    async def roll_back(self, request: pb.RollbackAgentRequest) -> pb.RollbackAgentResponse:
        """Give a version all new tasks."""
        name = definitions.name_from(request.name)
        if request.version < 1:
            raise invalid("version", "must be 1 or more")
        caller = principal()
        await self._desk.roll_back(caller, name, request.version)
        return pb.RollbackAgentResponse(agent=await self.get(name))

    async def get(self, name: str) -> agent_pb2.Agent:
        """Return an agent with the definition of its newest version in use."""
        head, version = await self._desk.in_use(principal(), name)
        message = definitions.head_message(head)
        message.definition.CopyFrom(definitions.definition_message(version.definition))
        return message

    async def list(
        self, *, after: str, types: Sequence[AgentType], limit: int
    ) -> Sequence[agent_pb2.Agent]:
        """Return agents of the tenant by name, without definition."""
        heads = await self._desk.heads(principal(), after=after, types=types, limit=limit)
        return [definitions.head_message(head) for head in heads]
