"""Agents and their definitions: messages to JSON bodies, and back."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from meshwright.orchestrator.v1 import agent_pb2
from meshwright.orchestrator.v1 import agent_registry_service_pb2 as pb
from meshwright_gateway.http.schemas import agents as schemas
from meshwright_gateway.wire import values

_TYPES: Final[dict[schemas.DefinableType, agent_pb2.AgentType.ValueType]] = {
    "chat": agent_pb2.AGENT_TYPE_CHAT,
    "rag": agent_pb2.AGENT_TYPE_RAG,
    "tool_call": agent_pb2.AGENT_TYPE_TOOL_CALL,
    "plan_execute": agent_pb2.AGENT_TYPE_PLAN_EXECUTE,
    "supervisor": agent_pb2.AGENT_TYPE_SUPERVISOR,
}


def define_request(name: str, body: schemas.AgentDefine, request_id: str) -> pb.DefineAgentRequest:
    """Return the request that defines an agent."""
    return pb.DefineAgentRequest(
        name=name,
        description=body.description,
        definition=_definition_message(body.definition),
        traffic_percent=body.traffic_percent,
        expected_version=body.expected_version,
        comment=body.comment,
        request_id=request_id,
    )


def _definition_message(body: schemas.DefinitionInput) -> agent_pb2.AgentDefinition:
    schema = body.output_schema
    message = agent_pb2.AgentDefinition(
        type=_TYPES[body.type],
        instructions=body.instructions,
        tools=body.tools,
        approval_tools=body.approval_tools,
        agents=body.agents,
        knowledge_base_ids=body.knowledge_base_ids,
        model_policy=agent_pb2.AgentModelPolicy(**body.model_policy.model_dump()),
        memory_policy=agent_pb2.AgentMemoryPolicy(**body.memory_policy.model_dump()),
        input_guards=body.input_guards,
        output_guards=body.output_guards,
        output_schema=None if schema is None else values.struct_from(schema),
        max_steps=body.max_steps,
    )
    if body.max_seconds is not None:
        message.max_duration.FromTimedelta(timedelta(seconds=body.max_seconds))
    return message


def agent_view(
    agent: agent_pb2.Agent, instances: Iterable[agent_pb2.AgentInstance] = ()
) -> schemas.Agent:
    """Return an agent as JSON shows it."""
    return schemas.Agent(
        name=agent.name,
        description=agent.description,
        type=values.enum_name(agent_pb2.AgentType, agent.type, "AGENT_TYPE_"),
        builtin=agent.builtin,
        version=agent.version,
        online_instances=agent.online_instances,
        definition=_definition_view(agent.definition) if agent.HasField("definition") else None,
        instances=[_instance_view(one) for one in instances],
        create_time=values.time_from(agent.create_time),
        update_time=values.time_from(agent.update_time),
    )


def _instance_view(instance: agent_pb2.AgentInstance) -> schemas.AgentInstance:
    load = instance.load if instance.HasField("load") else None
    return schemas.AgentInstance(
        agent_instance_id=instance.agent_instance_id,
        address=instance.address,
        state=values.enum_name(
            agent_pb2.AgentInstanceState, instance.state, "AGENT_INSTANCE_STATE_"
        ),
        weight=instance.weight,
        cpu_free=None if load is None else load.cpu_free,
        memory_free=None if load is None else load.memory_free,
        pending_tasks=None if load is None else load.pending_tasks,
        error_rate=None if load is None else load.error_rate,
        max_concurrent_tasks=instance.max_concurrent_tasks,
        labels=dict(instance.labels),
        register_time=values.moment_from(instance.register_time),
        heartbeat_time=values.time_from(instance.heartbeat_time),
    )


def version_view(version: agent_pb2.AgentVersion) -> schemas.AgentVersion:
    """Return a version as JSON shows it."""
    return schemas.AgentVersion(
        agent=version.agent,
        version=version.version,
        definition=_definition_view(version.definition),
        traffic_percent=version.traffic_percent,
        comment=version.comment,
        created_by=version.created_by,
        create_time=values.moment_from(version.create_time),
    )


def _definition_view(message: agent_pb2.AgentDefinition) -> schemas.Definition:
    model, memory = message.model_policy, message.memory_policy
    return schemas.Definition.model_validate(
        {
            "type": values.enum_name(agent_pb2.AgentType, message.type, "AGENT_TYPE_"),
            "instructions": message.instructions,
            "tools": list(message.tools),
            "approval_tools": list(message.approval_tools),
            "agents": list(message.agents),
            "knowledge_base_ids": list(message.knowledge_base_ids),
            "model_policy": {
                "model": model.model,
                "fallback_models": list(model.fallback_models),
                "temperature": model.temperature if model.HasField("temperature") else None,
                "max_output_tokens": (
                    model.max_output_tokens if model.HasField("max_output_tokens") else None
                ),
                "reasoning_effort": model.reasoning_effort,
            },
            "memory_policy": {
                "max_history_messages": memory.max_history_messages,
                "recall_top_k": memory.recall_top_k if memory.HasField("recall_top_k") else None,
                "summary_turns": memory.summary_turns if memory.HasField("summary_turns") else None,
                "remembers": memory.remembers,
            },
            "input_guards": list(message.input_guards),
            "output_guards": list(message.output_guards),
            "output_schema": (
                values.object_from(message.output_schema)
                if message.HasField("output_schema")
                else None
            ),
            "max_steps": message.max_steps,
            "max_seconds": (
                message.max_duration.ToTimedelta().total_seconds()
                if message.HasField("max_duration")
                else None
            ),
        }
    )
