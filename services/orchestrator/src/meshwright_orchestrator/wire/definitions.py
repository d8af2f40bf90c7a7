"""Definitions of agents: protobuf to domain and back, with the checks of shape."""

import math
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from google.protobuf import duration_pb2, json_format

from meshwright.orchestrator.v1 import agent_pb2
from meshwright.orchestrator.v1 import agent_registry_service_pb2 as pb
from meshwright_common.errors import invalid
from meshwright_common.ids import parse_id
from meshwright_orchestrator.domain import output_schema
from meshwright_orchestrator.domain.agents import AgentType
from meshwright_orchestrator.domain.definitions import (
    DEFINABLE,
    WHOLE,
    AgentHead,
    AgentVersion,
    Definition,
    NewVersion,
)
from meshwright_orchestrator.wire.agents import MAX_TOOLS, TYPES
from meshwright_orchestrator.wire.structs import check_struct
from meshwright_orchestrator.wire.tasks import (
    MAX_DURATION,
    MAX_KNOWLEDGE_BASES,
    MAX_MESSAGES,
    MAX_NAME_CHARACTERS,
    MAX_STEPS,
    request_id_from,
)
from meshwright_orchestrator.wire.values import struct_message

NAME: Final = re.compile(r"[a-z0-9_-]{1,64}")
MAX_DESCRIPTION_CHARACTERS: Final = 2_000
MAX_COMMENT_CHARACTERS: Final = 1_000
MAX_INSTRUCTION_BYTES: Final = 64 * 1024
MAX_AGENTS: Final = 32
MAX_FALLBACKS: Final = 4
MAX_GUARDS: Final = 16
MAX_TEMPERATURE: Final = 2.0
MAX_OUTPUT_TOKENS: Final = 128_000
MAX_MEMORIES: Final = 50
MAX_TOOL_CHARACTERS: Final = 128
DEFAULT_BASE: Final = "default"
"""Names the tenant's default knowledge base, as in searches."""
EFFORTS: Final = ("", "low", "medium", "high")
_TYPES_FROM: Final = {int(number): kind for kind, number in TYPES.items() if kind in DEFINABLE}
_OF: Final = "definition"


def new_version_from(request: pb.DefineAgentRequest) -> NewVersion:
    """Return what is to be defined. Raises: InvalidArgument naming the field."""
    name = name_from(request.name)
    _check_length("description", request.description, MAX_DESCRIPTION_CHARACTERS)
    _check_length("comment", request.comment, MAX_COMMENT_CHARACTERS)
    if not request.HasField("definition"):
        raise invalid(_OF, "must be given")
    share = request.traffic_percent if request.HasField("traffic_percent") else None
    if share is not None and not 0 <= share <= WHOLE:
        raise invalid("traffic_percent", f"must be 0 to {WHOLE}")
    expected = request.expected_version if request.HasField("expected_version") else None
    if expected is not None and expected < 0:
        raise invalid("expected_version", "must not be negative")
    return NewVersion(
        name=name,
        description=request.description,
        definition=definition_from(request.definition),
        comment=request.comment,
        share=share,
        expected=expected,
        request_id=request_id_from(request.request_id),
    )


def name_from(name: str, field: str = "name") -> str:
    """Return an agent's name. Raises: InvalidArgument."""
    if not NAME.fullmatch(name):
        raise invalid(field, "must be 1 to 64 of a-z, 0-9, _ and -")
    return name


def definition_from(message: agent_pb2.AgentDefinition) -> Definition:
    """Return a definition. Raises: InvalidArgument naming the field."""
    kind = _TYPES_FROM.get(message.type)
    if kind is None:
        raise invalid(f"{_OF}.type", "must be CHAT, RAG, TOOL_CALL, PLAN_EXECUTE or SUPERVISOR")
    size = len(message.instructions.encode())
    if size > MAX_INSTRUCTION_BYTES:
        raise invalid(
            f"{_OF}.instructions", f"must be at most {MAX_INSTRUCTION_BYTES} bytes, has {size}"
        )
    if not 0 <= message.max_steps <= MAX_STEPS:
        raise invalid(f"{_OF}.max_steps", f"must be 0 to {MAX_STEPS}")
    tools, approval_tools = _tools_from(message, kind)
    policy, memory = message.model_policy, message.memory_policy
    _check_model_policy(policy)
    _check_memory_policy(memory)
    return Definition(
        type=kind,
        instructions=message.instructions,
        tools=tools,
        approval_tools=approval_tools,
        agents=_agents_from(message, kind),
        knowledge_base_ids=_bases_from(message.knowledge_base_ids),
        model=policy.model,
        fallback_models=tuple(policy.fallback_models),
        temperature=policy.temperature if policy.HasField("temperature") else None,
        max_output_tokens=(
            policy.max_output_tokens if policy.HasField("max_output_tokens") else None
        ),
        reasoning_effort=policy.reasoning_effort,
        max_history_messages=memory.max_history_messages,
        memory_top_k=memory.recall_top_k if memory.HasField("recall_top_k") else None,
        summary_turns=memory.summary_turns if memory.HasField("summary_turns") else None,
        remembers=memory.remembers,
        input_guards=_named(f"{_OF}.input_guards", message.input_guards, MAX_GUARDS),
        output_guards=_named(f"{_OF}.output_guards", message.output_guards, MAX_GUARDS),
        output_schema=_schema_from(message),
        max_steps=message.max_steps,
        max_seconds=_seconds_from(message),
    )


def _tools_from(
    message: agent_pb2.AgentDefinition, kind: AgentType
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    tools = _names(f"{_OF}.tools", message.tools, MAX_TOOLS, MAX_TOOL_CHARACTERS)
    approval = _names(
        f"{_OF}.approval_tools", message.approval_tools, MAX_TOOLS, MAX_TOOL_CHARACTERS
    )
    if kind is AgentType.TOOL_CALL and not tools:
        raise invalid(f"{_OF}.tools", "must name at least one tool for this type")
    for index, name in enumerate(approval):
        if name not in tools:
            raise invalid(f"{_OF}.approval_tools[{index}]", "must be one of tools")
    return tools, approval


def _agents_from(message: agent_pb2.AgentDefinition, kind: AgentType) -> tuple[str, ...]:
    agents = _named(f"{_OF}.agents", message.agents, MAX_AGENTS)
    if kind is not AgentType.SUPERVISOR:
        if agents:
            raise invalid(f"{_OF}.agents", "belong to supervisors only")
        return ()
    if not agents:
        raise invalid(f"{_OF}.agents", f"must be 1 to {MAX_AGENTS} for a supervisor")
    return agents


def _bases_from(ids: Sequence[str]) -> tuple[str, ...]:
    field = f"{_OF}.knowledge_base_ids"
    named = _names(field, ids, MAX_KNOWLEDGE_BASES)
    return tuple(
        one if one == DEFAULT_BASE else parse_id(one, f"{field}[{index}]")
        for index, one in enumerate(named)
    )


def _names(
    field: str, names: Sequence[str], most: int, longest: int = MAX_NAME_CHARACTERS
) -> tuple[str, ...]:
    if len(names) > most:
        raise invalid(field, f"must be at most {most}, are {len(names)}")
    for index, name in enumerate(names):
        if not 1 <= len(name) <= longest or "\0" in name:
            raise invalid(f"{field}[{index}]", f"must be 1 to {longest} characters")
        if name in names[:index]:
            raise invalid(f"{field}[{index}]", "is there twice")
    return tuple(names)


def _named(field: str, names: Sequence[str], most: int) -> tuple[str, ...]:
    for index, name in enumerate(_names(field, names, most)):
        name_from(name, f"{field}[{index}]")
    return tuple(names)


def _check_model_policy(policy: agent_pb2.AgentModelPolicy) -> None:
    field = f"{_OF}.model_policy"
    _check_length(f"{field}.model", policy.model, MAX_NAME_CHARACTERS)
    fallbacks = _names(f"{field}.fallback_models", policy.fallback_models, MAX_FALLBACKS)
    if policy.model in fallbacks:
        raise invalid(f"{field}.fallback_models", "must not hold the model itself")
    if policy.HasField("temperature") and not (
        math.isfinite(policy.temperature) and 0 <= policy.temperature <= MAX_TEMPERATURE
    ):
        raise invalid(f"{field}.temperature", f"must be 0 to {MAX_TEMPERATURE:g}")
    if policy.HasField("max_output_tokens") and not (
        1 <= policy.max_output_tokens <= MAX_OUTPUT_TOKENS
    ):
        raise invalid(f"{field}.max_output_tokens", f"must be 1 to {MAX_OUTPUT_TOKENS}")
    if policy.reasoning_effort not in EFFORTS:
        raise invalid(f"{field}.reasoning_effort", 'must be "low", "medium", "high" or empty')


def _check_memory_policy(policy: agent_pb2.AgentMemoryPolicy) -> None:
    field = f"{_OF}.memory_policy"
    if not 0 <= policy.max_history_messages <= MAX_MESSAGES:
        raise invalid(f"{field}.max_history_messages", f"must be 0 to {MAX_MESSAGES}")
    if not 0 <= policy.recall_top_k <= MAX_MEMORIES:
        raise invalid(f"{field}.recall_top_k", f"must be 0 to {MAX_MEMORIES}")
    if policy.summary_turns:
        raise invalid(
            f"{field}.summary_turns",
            "must be 0, or absent: how many turns a summary covers is the operator's setting",
        )


def _schema_from(message: agent_pb2.AgentDefinition) -> dict[str, object] | None:
    if not message.HasField("output_schema"):
        return None
    field = f"{_OF}.output_schema"
    check_struct(message.output_schema, field)
    schema: dict[str, object] = json_format.MessageToDict(message.output_schema)
    if wrong := output_schema.wrong_with(schema):
        raise invalid(field, wrong)
    return schema


def _seconds_from(message: agent_pb2.AgentDefinition) -> float:
    if not message.HasField("max_duration"):
        return 0.0
    seconds = message.max_duration.seconds + message.max_duration.nanos / 1e9
    if not 1 <= seconds <= MAX_DURATION.total_seconds():
        raise invalid(f"{_OF}.max_duration", "must be 1 second to 24 hours")
    return seconds


def _check_length(field: str, text: str, most: int) -> None:
    if len(text) > most:
        raise invalid(field, f"must be at most {most} characters, has {len(text)}")


def definition_message(definition: Definition) -> agent_pb2.AgentDefinition:
    """Return a definition as the wire shows it, as it was written."""
    message = agent_pb2.AgentDefinition(
        type=TYPES[definition.type],
        instructions=definition.instructions,
        tools=definition.tools,
        approval_tools=definition.approval_tools,
        agents=definition.agents,
        knowledge_base_ids=definition.knowledge_base_ids,
        model_policy=agent_pb2.AgentModelPolicy(
            model=definition.model,
            fallback_models=definition.fallback_models,
            temperature=definition.temperature,
            max_output_tokens=definition.max_output_tokens,
            reasoning_effort=definition.reasoning_effort,
        ),
        memory_policy=agent_pb2.AgentMemoryPolicy(
            max_history_messages=definition.max_history_messages,
            recall_top_k=definition.memory_top_k,
            summary_turns=definition.summary_turns,
            remembers=definition.remembers,
        ),
        input_guards=definition.input_guards,
        output_guards=definition.output_guards,
        output_schema=struct_message(definition.output_schema),
        max_steps=definition.max_steps,
    )
    if definition.max_seconds:
        duration = duration_pb2.Duration()
        duration.FromTimedelta(timedelta(seconds=definition.max_seconds))
        message.max_duration.CopyFrom(duration)
    return message


def version_message(version: AgentVersion) -> agent_pb2.AgentVersion:
    """Return a version as the wire shows it."""
    message = agent_pb2.AgentVersion(
        agent=version.agent,
        version=version.version,
        definition=definition_message(version.definition),
        traffic_percent=version.share,
        comment=version.comment,
        created_by=version.created_by,
    )
    message.create_time.FromDatetime(version.created_at)
    return message


def head_message(head: AgentHead) -> agent_pb2.Agent:
    """Return a defined agent, without its definition."""
    message = agent_pb2.Agent(
        name=head.name,
        description=head.description,
        type=TYPES[head.type],
        version=head.shares.newest,
    )
    message.create_time.FromDatetime(head.created_at)
    message.update_time.FromDatetime(head.updated_at)
    return message


def definable_types(types: Sequence[int]) -> tuple[AgentType, ...]:
    """Return those of the types that tenants can define."""
    return tuple(_TYPES_FROM[number] for number in types if number in _TYPES_FROM)
