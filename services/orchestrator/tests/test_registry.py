"""AgentRegistryService: the agents that come with the platform."""

import pytest

from meshwright.orchestrator.v1 import (
    agent_pb2,
    agent_registry_service_pb2,
)
from meshwright_common.errors import ServiceError
from services.orchestrator.tests.mesh import Mesh, acting

pytestmark = pytest.mark.asyncio


async def test_built_in_agent_shows_its_definition(mesh: Mesh) -> None:
    async with mesh.process() as stubs:
        with acting(mesh.caller):
            got = await stubs.registry.GetAgent(
                agent_registry_service_pb2.GetAgentRequest(name="rag")
            )
    assert (got.agent.type, got.agent.builtin, got.agent.version) == (
        agent_pb2.AGENT_TYPE_RAG,
        True,
        1,
    )
    assert got.agent.definition.instructions
    assert list(got.agent.definition.tools) == ["add", "knowledge_search", "slow"]


async def test_agents_come_in_pages(mesh: Mesh) -> None:
    asked = agent_registry_service_pb2.ListAgentsRequest()
    asked.page.page_size = 3
    async with mesh.process() as stubs:
        with acting(mesh.caller):
            first = await stubs.registry.ListAgents(asked)
            asked.page.page_token = first.page.next_page_token
            second = await stubs.registry.ListAgents(asked)
            asked.types.append(agent_pb2.AGENT_TYPE_CHAT)
            with pytest.raises(ServiceError) as caught:
                await stubs.registry.ListAgents(asked)
    names = [agent.name for agent in [*first.agents, *second.agents]]
    assert names == [
        *("chat", "langgraph-react", "plan_execute"),
        *("rag", "supervisor", "tool_call"),
    ]
    assert not second.page.next_page_token
    assert caught.value.field_violations[0].field == "page.page_token"


async def test_unknown_agent_is_absent(mesh: Mesh) -> None:
    async with mesh.process() as stubs:
        with acting(mesh.caller), pytest.raises(ServiceError) as caught:
            await stubs.registry.GetAgent(agent_registry_service_pb2.GetAgentRequest(name="nobody"))
    assert caught.value.reason == "AGENT_NOT_FOUND"
