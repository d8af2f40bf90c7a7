"""Agents as the wire shows them."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from meshwright.orchestrator.v1 import agent_pb2
from meshwright_common.errors import invalid
from meshwright_orchestrator.domain.agents import AgentSpec, AgentType
from meshwright_orchestrator.wire.tasks import MAX_DURATION, MAX_MESSAGES, MAX_STEPS

MAX_TOOLS: Final = 64
"""Names in a definition (orchestrator/v1/agent.proto)."""

TYPES: Final = {
    AgentType.CHAT: agent_pb2.AGENT_TYPE_CHAT,
    AgentType.RAG: agent_pb2.AGENT_TYPE_RAG,
    AgentType.TOOL_CALL: agent_pb2.AGENT_TYPE_TOOL_CALL,
    AgentType.PLAN_EXECUTE: agent_pb2.AGENT_TYPE_PLAN_EXECUTE,
    AgentType.SUPERVISOR: agent_pb2.AGENT_TYPE_SUPERVISOR,
    AgentType.GRAPH: agent_pb2.AGENT_TYPE_GRAPH,
    AgentType.REMOTE: agent_pb2.AGENT_TYPE_REMOTE,
}


def check_types(types: Sequence[int]) -> None:
    """Raises: InvalidArgument for a value that is no type."""
    for value in types:
        if value not in agent_pb2.AgentType.values() or not value:
            raise invalid("types", f"holds a value that is no agent type: {value}")


def builtin_message(spec: AgentSpec) -> agent_pb2.Agent:
    """Return a built-in agent, without its definition."""
    return agent_pb2.Agent(
        name=spec.name,
        description=spec.description,
        type=TYPES[spec.type],
        builtin=True,
        version=1,
    )


def graph_message(name: str, description: str) -> agent_pb2.Agent:
    """Return an agent that is an installed graph."""
    return agent_pb2.Agent(
        name=name,
        description=description,
        type=agent_pb2.AGENT_TYPE_GRAPH,
        builtin=True,
        version=1,
    )


def definition_message(spec: AgentSpec, tools: Sequence[str]) -> agent_pb2.AgentDefinition:
    """Return what a built-in agent is; `tools` are those that the caller may use."""
    definition = agent_pb2.AgentDefinition(
        type=TYPES[spec.type],
        instructions=spec.instructions,
        tools=tools[:MAX_TOOLS],
        agents=spec.agents,
        memory_policy=agent_pb2.AgentMemoryPolicy(
            max_history_messages=MAX_MESSAGES, remembers=spec.learns
        ),
        max_steps=MAX_STEPS,
    )
    definition.max_duration.FromTimedelta(timedelta(seconds=MAX_DURATION.total_seconds()))
    return definition
