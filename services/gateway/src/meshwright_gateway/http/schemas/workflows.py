"""Bodies of workflows and their runs."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, JsonValue, model_validator

from meshwright_gateway.http.schemas.common import (
    Input,
    JsonObject,
    JsonObjectInput,
    Listing,
    Name,
    Output,
    Usage,
)
from meshwright_gateway.http.schemas.work import TaskProblem, TaskStateName

StepName = Annotated[str, Field(min_length=1, max_length=64, description="Of a-z, 0-9 and _.")]
Expression = Annotated[
    str,
    Field(
        max_length=2_000,
        description="CEL over `input` and `steps.<name>.output`; empty: not given.",
    ),
]
Seconds = Annotated[
    str,
    Field(
        pattern=r"^[0-9]{1,8}(\.[0-9]{1,9})?s$",
        description="A duration in seconds, such as `30s` or `0.5s`.",
    ),
]
StepStateName = Literal[
    "pending",
    "running",
    "waiting",
    "completed",
    "skipped",
    "failed",
    "cancelled",
    "compensated",
    "unspecified",
]


class AgentAction(Input):
    """Run an agent as a task. `${…}` in texts are expressions."""

    agent: Name
    message: str = Field(default="", max_length=256 * 1024)
    input: JsonObjectInput | None = None


class ToolAction(Input):
    """Call a tool; the output is its result."""

    tool: Name
    arguments: JsonObjectInput = Field(default={})


class SubworkflowAction(Input):
    """Run another workflow; the output is its output."""

    workflow: Name
    input: JsonObjectInput = Field(default={})


class ApprovalAction(Input):
    """Ask a person; the output is the answer."""

    question: str = Field(min_length=1, max_length=4096)
    answer_schema: JsonObjectInput | None = Field(
        default=None,
        description='JSON Schema of the answer. Absent: `{"approved": boolean}`, false fails.',
    )


class Action(Input):
    """What a step does: exactly one of these."""

    agent: AgentAction | None = None
    tool: ToolAction | None = None
    subworkflow: SubworkflowAction | None = None
    approval: ApprovalAction | None = None
    delay: Seconds | None = Field(default=None, description="Wait this long, 1 s to 30 days.")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(getattr(self, name) is not None for name in type(self).model_fields) != 1:
            raise ValueError("give exactly one of agent, tool, subworkflow, approval and delay")
        return self


class Retry(Input):
    """How a failed attempt is followed by another one."""

    max_attempts: int | None = Field(default=None, ge=1, le=10, description="Absent: 3.")
    first_delay: Seconds | None = Field(default=None, description="Absent: 1 s; then doubled.")
    max_delay: Seconds | None = Field(default=None, description="Absent: 5 minutes.")


class Step(Input):
    """One step of a workflow."""

    name: StepName
    after: Annotated[
        tuple[StepName, ...],
        Field(strict=False, max_length=200, description="Steps that come before it."),
    ] = ()
    join: Literal["all", "any"] = Field(
        default="all", description="How many of `after` must have ended well."
    )
    condition: Expression = ""
    for_each: Expression = ""
    max_parallel: int | None = Field(default=None, ge=1, le=100, description="Absent: 10.")
    repeat_while: Expression = ""
    max_repeats: int | None = Field(default=None, ge=1, le=100)
    retry: Retry | None = None
    timeout: Seconds | None = Field(
        default=None, description="Of one attempt. Absent: 5 minutes; 7 days for approvals."
    )
    may_fail: bool = False
    action: Action
    compensation: Action | None = Field(
        default=None, description="What undoes it when the run fails or is cancelled."
    )


class Definition(Input):
    """Steps and how they hang together."""

    description: str = Field(default="", max_length=2_000)
    input_schema: JsonObjectInput | None = Field(
        default=None, description="JSON Schema (2020-12) of a run's input. Absent: any object."
    )
    steps: Annotated[tuple[Step, ...], Field(strict=False, max_length=200)]
    output: Expression = ""
    max_duration: Seconds | None = Field(default=None, description="Of a run. Absent: 24 h.")


class WorkflowCreation(Input):
    """A workflow to store, or the next version of the one with this name."""

    name: str = Field(min_length=1, max_length=64, description="Of a-z, 0-9, _ and -.")
    definition: Definition
    expected_version: int | None = Field(
        default=None, ge=0, description="Newest version you know; 0: it must be new. Absent: any."
    )


class Workflow(Output):
    """One version of a workflow."""

    workflow_id: str
    name: str
    version: int
    definition: Definition = Field(description="Without its steps in lists.")
    created_by: str
    create_time: datetime
    update_time: datetime


class WorkflowList(Listing):
    """Newest versions of workflows, by name."""

    workflows: list[Workflow]


class RunStart(Input):
    """A run to start."""

    input: JsonObjectInput = Field(default={})
    version: int = Field(default=0, ge=0, description="0: the newest.")
    start_time: Annotated[AwareDatetime | None, Field(strict=False)] = Field(
        default=None, description="Not before this. Absent: now."
    )


class StepRun(Output):
    """A step of a run."""

    name: str
    state: StepStateName
    attempt: int
    child_ids: list[str] = Field(description="Tasks and runs that did its work, oldest first.")
    output: JsonValue
    error: TaskProblem | None
    interrupt_id: str = Field(
        description="Its open question; the task that asks is the last of child_ids."
    )
    start_time: datetime | None
    end_time: datetime | None


class Run(Output):
    """A run of a workflow."""

    run_id: str
    workflow_id: str
    workflow_version: int
    state: TaskStateName
    input: JsonObject
    output: JsonValue
    error: TaskProblem | None
    steps: list[StepRun] = Field(description="In the order of the definition. Empty in lists.")
    usage: Usage
    schedule_id: str
    parent_run_id: str
    created_by: str
    create_time: datetime
    end_time: datetime | None = Field(description="When the compensations were done as well.")


class RunList(Listing):
    """Runs, newest first."""

    runs: list[Run]
