"""Bodies of agents, and of the definitions of those that tenants make."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from meshwright_gateway.http.schemas.common import (
    Input,
    JsonObject,
    JsonObjectInput,
    Listing,
    Output,
)

DefinableType = Literal["chat", "rag", "tool_call", "plan_execute", "supervisor"]
Effort = Literal["", "low", "medium", "high"]
Thing = Annotated[str, Field(min_length=1, max_length=200)]


class ModelPolicyInput(Input):
    """Which model, and how."""

    model: str = Field(default="", max_length=200, description="Empty: the default model.")
    fallback_models: list[Thing] = Field(
        default=[], max_length=4, description="Tried in order when the first cannot answer."
    )
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_output_tokens: int | None = Field(default=None, ge=1, le=128_000)
    reasoning_effort: Effort = ""


class MemoryPolicyInput(Input):
    """What it remembers."""

    max_history_messages: int = Field(
        default=0, ge=0, le=500, description="Newest messages that the model sees. 0: 100."
    )
    recall_top_k: int | None = Field(
        default=None, ge=0, le=50, description="Memories told with a question. Absent: 5."
    )
    summary_turns: int | None = Field(
        default=None,
        ge=0,
        le=0,
        description="0: its turns are never summarised. Absent: as the operator set.",
    )
    remembers: bool = Field(
        default=False, description="Summaries may keep facts about the user as memories."
    )


class DefinitionInput(Input):
    """What an agent is."""

    type: DefinableType
    instructions: str = Field(
        default="", max_length=65_536, description="System prompt. Empty: the type's own."
    )
    tools: list[Thing] = Field(
        default=[], max_length=64, description="Tools it may call. Empty: none."
    )
    approval_tools: list[Thing] = Field(
        default=[], max_length=64, description="Those of them that wait for a person's approval."
    )
    agents: list[Thing] = Field(
        default=[], max_length=32, description="For supervisors: whom they may hand work to."
    )
    knowledge_base_ids: list[Thing] = Field(
        default=[], max_length=16, description='By id or "default". Empty: those of the task.'
    )
    model_policy: ModelPolicyInput = ModelPolicyInput()
    memory_policy: MemoryPolicyInput = MemoryPolicyInput()
    input_guards: list[Thing] = Field(
        default=[], max_length=16, description="Guards on what goes in, beside the tenant's."
    )
    output_guards: list[Thing] = Field(
        default=[], max_length=16, description="Guards on what comes out, beside the tenant's."
    )
    output_schema: JsonObjectInput | None = Field(
        default=None, description="JSON Schema (2020-12) of type object. Absent: text answers."
    )
    max_steps: int = Field(default=0, ge=0, le=25, description="Model and tool steps. 0: 25.")
    max_seconds: float | None = Field(
        default=None, ge=1, le=86_400, description="Of a task. Absent: 5 minutes."
    )


class AgentDefine(Input):
    """An agent, or its next version."""

    description: str = Field(
        default="", max_length=2_000, description="What it is good for; replaces the old text."
    )
    definition: DefinitionInput
    traffic_percent: int | None = Field(
        default=None, ge=0, le=100, description="Of new tasks, for this version. Absent: all."
    )
    expected_version: int | None = Field(
        default=None, ge=0, description="Newest version you have read; 0: it must be new."
    )
    comment: str = Field(default="", max_length=1_000, description="Why.")


class AgentRollback(Input):
    """Which version shall answer again."""

    version: int = Field(ge=1)


class ModelPolicy(Output):
    """Which model, and how."""

    model: str
    fallback_models: list[str]
    temperature: float | None
    max_output_tokens: int | None
    reasoning_effort: str


class MemoryPolicy(Output):
    """What it remembers."""

    max_history_messages: int
    recall_top_k: int | None
    summary_turns: int | None
    remembers: bool


class Definition(Output):
    """What an agent is."""

    type: str
    instructions: str
    tools: list[str]
    approval_tools: list[str]
    agents: list[str]
    knowledge_base_ids: list[str]
    model_policy: ModelPolicy
    memory_policy: MemoryPolicy
    input_guards: list[str]
    output_guards: list[str]
    output_schema: JsonObject | None
    max_steps: int
    max_seconds: float | None


class AgentVersion(Output):
    """A version of an agent. It never changes, but for its share of the traffic."""

    agent: str
    version: int
    definition: Definition
    traffic_percent: int = Field(description="Of new tasks; all versions together get 100.")
    comment: str
    created_by: str = Field(description="User that defined it. Empty: erased.")
    create_time: datetime


class AgentVersionList(Listing):
    """Versions, newest first."""

    versions: list[AgentVersion]


class AgentInstance(Output):
    """A program that works as a remote agent."""

    agent_instance_id: str
    address: str
    state: str = Field(description="online, draining, unknown (silent) or offline.")
    weight: int = Field(description="Share of the work, 1-100.")
    cpu_free: float | None = Field(description="0-1. Null before the first heartbeat.")
    memory_free: float | None
    pending_tasks: int | None
    error_rate: float | None
    max_concurrent_tasks: int
    labels: dict[str, str]
    register_time: datetime
    heartbeat_time: datetime | None


class Agent(Output):
    """Something that can be asked to do a task."""

    name: str
    description: str
    type: str
    builtin: bool
    version: int = Field(description="Newest version that answers new tasks.")
    online_instances: int
    definition: Definition | None = Field(
        description="Of that version. Null in lists, for graphs and for remote agents."
    )
    instances: list[AgentInstance] = Field(
        description="Of a remote agent, by weight, at most 100. Empty in lists."
    )
    create_time: datetime | None
    update_time: datetime | None


class AgentList(Listing):
    """Agents by name."""

    agents: list[Agent]
