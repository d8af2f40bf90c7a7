"""Bodies of agents, tasks, tools and models."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, JsonValue

from meshwright_gateway.http.schemas.common import (
    Citation,
    Identifier,
    Input,
    JsonObject,
    JsonObjectInput,
    KnowledgeBaseIds,
    Listing,
    Metadata,
    Name,
    Output,
    Usage,
)
from meshwright_gateway.http.schemas.conversation import Question
from meshwright_gateway.http.schemas.interrupts import Interrupt

TaskStateName = Literal[
    "queued", "running", "waiting", "completed", "failed", "cancelled", "expired", "unspecified"
]


class TaskMessage(Input):
    """A message of the conversation that a task gets."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(max_length=256 * 1024)


class TaskBudget(Input):
    """Bounds of a task and of all tasks that it starts, counted together. Absent: none.

    At a bound no further call begins and the task fails with BUDGET_EXCEEDED.
    """

    max_steps: int | None = Field(default=None, ge=1, description="Model and tool steps.")
    max_tokens: int | None = Field(default=None, ge=1, description="Prompt and completion.")
    max_cost_micro_usd: int | None = Field(
        default=None, ge=1, description="Millionths of a US dollar."
    )
    max_seconds: float | None = Field(
        default=None, gt=0, le=86_400, description="A deadline from acceptance on."
    )
    max_depth: int | None = Field(
        default=None, ge=1, le=10, description="Levels of tasks below the first. Absent: 3."
    )
    max_tasks: int | None = Field(
        default=None, ge=1, le=1000, description="Tasks, with the first one. Absent: 50."
    )


class TaskRequest(Input):
    """Work for an agent, without a session's history."""

    agent: Name = Field(description="Agent by name, such as `rag`.")
    message: Question | None = Field(
        default=None, description="The question. Give either this or `messages`."
    )
    messages: Annotated[
        tuple[TaskMessage, ...],
        Field(strict=False, max_length=500, description="Oldest first; the last is the question."),
    ] = ()
    session_id: Identifier | None = None
    model: Name | None = None
    knowledge_base_ids: KnowledgeBaseIds = ()
    max_steps: int | None = Field(default=None, ge=1, le=25)
    input: JsonObjectInput = Field(default={}, description="Input of custom agents.")
    metadata: Metadata = Field(default={})
    budget: TaskBudget | None = Field(
        default=None,
        description="What the task and all that it starts may use together. Absent: no bound.",
    )


class ExecuteRequest(TaskRequest):
    """Work for an agent that the client waits for."""

    on_disconnect: Literal["continue", "cancel"] = "continue"


class TaskSubmission(TaskRequest):
    """Work for an agent that nobody waits for."""

    priority: Literal["high", "normal", "low"] = Field(
        default="normal",
        description=(
            "`high`: somebody is waiting, so it expires when no worker takes it within seconds. "
            "`low`: batch work, refused while too much waits."
        ),
    )
    deadline: Annotated[AwareDatetime | None, Field(strict=False)] = Field(
        default=None,
        description=(
            "When it must have ended, at most a day away, or after start_time. Absent: 5 minutes "
            "from then."
        ),
    )
    start_time: Annotated[AwareDatetime | None, Field(strict=False)] = Field(
        default=None, description="Not before this, at most 366 days away. Absent: at once."
    )


class TaskProblem(Output):
    """Why a task failed."""

    reason: str
    message: str
    retryable: bool


class TaskResult(Output):
    """What a task ended with."""

    answer: str
    citations: list[Citation]
    output: JsonObject


class Task(Output):
    """A piece of agent work."""

    task_id: str
    agent: str
    agent_version: int = Field(
        default=0, description="Of a defined agent, fixed when accepted. 0: any other agent."
    )
    state: TaskStateName
    session_id: str
    attempt: int
    step_count: int
    result: TaskResult | None
    error: TaskProblem | None
    usage: Usage
    metadata: JsonObject
    created_by: str
    create_time: datetime
    update_time: datetime
    end_time: datetime | None
    start_time: datetime | None = Field(description="It does not begin before this.")
    parent_task_id: str = Field(description="The task that waits for this one. Empty: none.")
    root_task_id: str = Field(description="The first task of its tree. Empty: it is alone.")
    interrupts: list[Interrupt] = Field(
        description="What it waits for from people, oldest first. Empty in lists of tasks."
    )


class TaskReplay(Output):
    """What a task's journal comes to with the decider of today."""

    identical: bool = Field(description="Whether every decision was the same.")
    first_difference: int = Field(description="The first step that differs, from 1; 0 for none.")


class TaskList(Listing):
    """Tasks, newest first."""

    tasks: list[Task]


class Tool(Output):
    """A tool that the caller may use."""

    name: str
    description: str
    input_schema: JsonObject = Field(description="JSON Schema (2020-12) of the arguments.")
    output_schema: JsonObject | None
    source: Literal["builtin", "mcp", "openapi", "agent", "unspecified"]
    effect: Literal["read_only", "idempotent", "non_idempotent", "unspecified"]
    timeout_milliseconds: int


class ToolList(Listing):
    """Tools by name."""

    tools: list[Tool]


class ToolExecution(Input):
    """A call of a tool."""

    arguments: JsonObjectInput = Field(default={}, description="As the tool's input_schema says.")
    knowledge_base_ids: KnowledgeBaseIds = ()
    max_result_bytes: int | None = Field(default=None, ge=1, le=256 * 1024)


class ToolAnswer(Output):
    """How a tool's call ended. A tool that fails is an answer too: `is_error`."""

    call_id: str
    result: JsonValue = Field(description="What the tool gave, or {error, reason}.")
    is_error: bool
    truncated: bool
    duration_milliseconds: int
    citations: list[JsonObject]


class Model(Output):
    """A model that requests may name."""

    name: str
    provider: str
    context_window: int | None = Field(description="Tokens that fit; null: unknown.")
    generates: bool
    embeds: bool
    embedding_dimensions: int | None
    capabilities: list[str]


class ModelList(Output):
    """Models by name."""

    models: list[Model]
