"""The journal: what each step of a task came to. Plain data, written once, never changed."""

from dataclasses import dataclass
from typing import TypeAlias

from meshwright_orchestrator.domain.conversation import JsonObject, ToolCall
from meshwright_orchestrator.domain.models import NO_USAGE, Citation, Usage
from meshwright_orchestrator.domain.plan import Plan
from meshwright_orchestrator.domain.waiting import Asked, Delegated, Slept


@dataclass(frozen=True, slots=True)
class Remembered:
    """A memory of the task's owner. `kind` is "fact", "preference" or "summary".

    `trusted`: the user said it, or a model concluded it from what the user said; any other rests
    on documents or tools. `of_session`: what this very conversation was about, further up.
    """

    memory_id: str
    kind: str
    text: str
    trusted: bool = False
    of_session: bool = False


@dataclass(frozen=True, slots=True)
class Recalled:
    """Passages found for the question, numbered from 1. `degraded`: parts that were missing.

    `memories` were found for it too. Not `searched`: only memory was asked, not the documents.
    `digest` names the request in a graph's journal, as below.
    """

    passages: tuple[Citation, ...] = ()
    degraded: tuple[str, ...] = ()
    memories: tuple[Remembered, ...] = ()
    searched: bool = True
    digest: str = ""


@dataclass(frozen=True, slots=True)
class ModelAnswered:
    """A whole message of a model. `hidden`: its text is reasoning, not part of the answer;
    `silent`: readers are not told it at all. `plan` is what they are told of the plan after it.

    `digest` names the request in a graph's journal; empty for built-in agents, whose decider
    makes the same request by itself.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"
    usage: Usage = NO_USAGE
    hidden: bool = False
    digest: str = ""
    silent: bool = False
    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """Outcome of one tool call. `citations` are sources that the tool named, by its own numbers."""

    tool_call_id: str
    name: str
    result_json: str
    is_error: bool = False
    truncated: bool = False
    citations: tuple[Citation, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolsAnswered:
    """Outcomes of the calls of one step, in the order of the calls. `digest` as above."""

    calls: tuple[ToolCall, ...]
    results: tuple[ToolResult, ...]
    digest: str = ""


@dataclass(frozen=True, slots=True)
class GraphAnswered:
    """What a graph said at its end beyond the texts of its models, and its output."""

    text: str = ""
    output: JsonObject | None = None


Outcome: TypeAlias = (
    Recalled | ModelAnswered | ToolsAnswered | GraphAnswered | Asked | Delegated | Slept
)


@dataclass(frozen=True, slots=True)
class Step:
    """One entry: `number` from 1, `attempt` that did it."""

    number: int
    attempt: int
    outcome: Outcome


def usage_of(outcome: Outcome) -> Usage:
    """Return what a step consumed itself; what its children did is theirs."""
    return outcome.usage if isinstance(outcome, ModelAnswered) else NO_USAGE
