"""What a workflow does, as orchestrator/v1/workflow.proto describes it. Durations are seconds."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeAlias

from meshwright_orchestrator.domain.conversation import JsonObject

DAY_SECONDS: Final = 86_400.0
DEFAULT_RUN_SECONDS: Final = DAY_SECONDS
DEFAULT_STEP_SECONDS: Final = 300.0
DEFAULT_APPROVAL_SECONDS: Final = 7 * DAY_SECONDS
DEFAULT_PARALLEL: Final = 10
MAX_LEVELS: Final = 3
"""Runs above each other: one that a caller started is level 1."""
MAX_ITEMS: Final = 1_000
"""Items of one for_each."""
MAX_OUTPUT_BYTES: Final = 256 * 1024
"""Of a step or a run, as JSON."""


class Join(StrEnum):
    """How many of the steps before must have ended well."""

    ALL = "all"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Retry:
    """Attempts in all, the wait before the second one, doubled for each further one, and the
    longest wait, in seconds.
    """

    max_attempts: int = 3
    first_delay_seconds: float = 1.0
    max_delay_seconds: float = 300.0

    def delay_seconds(self, failed_attempts: int) -> float:
        """Return the wait after so many failed attempts, from 1."""
        doubled = self.first_delay_seconds * 2.0 ** min(failed_attempts - 1, 32)
        return min(doubled, max(self.max_delay_seconds, self.first_delay_seconds))


@dataclass(frozen=True, slots=True)
class AgentAction:
    """Run an agent as a task. `message` and strings of `input` hold expressions."""

    agent: str
    message: str = ""
    input: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class ToolAction:
    """Call a tool; strings of `arguments` hold expressions."""

    tool: str
    arguments: JsonObject


@dataclass(frozen=True, slots=True)
class SubworkflowAction:
    """Run another workflow, its newest version when the step starts."""

    workflow: str
    input: JsonObject


@dataclass(frozen=True, slots=True)
class ApprovalAction:
    """Ask a person. Without `answer_schema` it is a yes or a no, and a no fails the step."""

    question: str
    answer_schema: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class DelayAction:
    """Wait."""

    seconds: float


Action: TypeAlias = AgentAction | ToolAction | SubworkflowAction | ApprovalAction | DelayAction


@dataclass(frozen=True, slots=True)
class WorkflowStep:
    """One step. Empty texts: not given."""

    name: str
    action: Action
    after: tuple[str, ...] = ()
    join: Join = Join.ALL
    condition: str = ""
    for_each: str = ""
    max_parallel: int = DEFAULT_PARALLEL
    repeat_while: str = ""
    max_repeats: int = 0
    retry: Retry = Retry()
    timeout_seconds: float = DEFAULT_STEP_SECONDS
    may_fail: bool = False
    compensation: Action | None = None


@dataclass(frozen=True, slots=True)
class WorkflowDefinition:
    """Steps and how they hang together."""

    steps: tuple[WorkflowStep, ...]
    description: str = ""
    input_schema: JsonObject | None = None
    output: str = ""
    max_seconds: float = DEFAULT_RUN_SECONDS

    def step(self, name: str) -> WorkflowStep:
        """Return the step of this name. Raises: KeyError."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)

    def before(self, name: str) -> frozenset[str]:
        """Return the names of all steps that come before a step, directly or not."""
        found: set[str] = set()
        pending = list(self.step(name).after)
        while pending:
            one = pending.pop()
            if one not in found:
                found.add(one)
                pending.extend(self.step(one).after)
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow as stored: one version of it."""

    workflow_id: str
    name: str
    version: int
    definition: WorkflowDefinition
    created_by: str
    created_at: datetime
    updated_at: datetime


def templates_of(action: Action) -> Iterator[tuple[str, object]]:
    """Yield the fields of an action that hold expressions, with their paths in the proto."""
    match action:
        case AgentAction(_, message, given):
            yield "agent.message", message
            yield "agent.input", given
        case ToolAction(_, arguments):
            yield "tool.arguments", arguments
        case SubworkflowAction(_, given):
            yield "subworkflow.input", given
        case ApprovalAction(question, _):
            yield "approval.question", question
        case DelayAction():
            return
