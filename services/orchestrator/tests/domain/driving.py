"""Driving a decider with outcomes that are made up: what fits a command, whatever a model says."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from hypothesis import strategies as st

from meshwright_orchestrator.domain.conversation import Message, Role, Text, ToolCall
from meshwright_orchestrator.domain.decider import (
    CallModel,
    CallTools,
    Command,
    Decision,
    Fail,
    Finish,
    Recall,
    step,
)
from meshwright_orchestrator.domain.journal import (
    ModelAnswered,
    Outcome,
    Recalled,
    ToolResult,
    ToolsAnswered,
)
from meshwright_orchestrator.domain.models import Citation, Failure, TaskSpec, TaskState, Usage
from meshwright_orchestrator.domain.waiting import ChildResult, Delegate, Delegated

QUESTION = "What?"
USED = Usage(10, 2)


def spec(question: str = QUESTION, agent: str = "chat") -> TaskSpec:
    """Return a task that asks one question."""
    return TaskSpec(agent, (Message(Role.USER, (Text(question),)),))


def says(text: str, *calls: tuple[str, object]) -> ModelAnswered:
    """Return a model's message; arguments of calls are given as values or as raw text."""
    made = tuple(
        ToolCall(f"c{i}", name, given if isinstance(given, str) else json.dumps(given))
        for i, (name, given) in enumerate(calls)
    )
    return ModelAnswered(text, tool_calls=made, usage=USED)


def plans(*steps: str) -> ModelAnswered:
    """Return a model's plan."""
    return says(json.dumps({"steps": steps}))


def used(command: Command, *results: str) -> ToolsAnswered:
    """Return the outcomes of the calls of a command."""
    assert isinstance(command, CallTools)
    calls = tuple(plan.call for plan in command.calls)
    given = results or ("{}",) * len(calls)
    return ToolsAnswered(
        calls,
        tuple(ToolResult(call.id, call.name, one) for call, one in zip(calls, given, strict=True)),
    )


def ended(
    agent: str,
    answer: str = "",
    *,
    state: TaskState = TaskState.COMPLETED,
    citations: Sequence[Citation] = (),
    failure: Failure | None = None,
) -> ChildResult:
    """Return how a child ended."""
    return ChildResult("t", agent, state, answer, None, failure, tuple(citations), Usage(100, 20))


def cited(number: int, chunk: str) -> Citation:
    """Return a source."""
    return Citation(number, "d", f"book-{chunk}", 3, 0, 9, "Words.", 0.5, chunk)


def after(decision: Decision, *outcomes: Outcome) -> Decision:
    """Return the decision after all of these."""
    for outcome in outcomes:
        decision = step(decision.state, outcome)
    return decision


def model_call(decision: Decision) -> CallModel:
    """Return the command, which lets the model answer."""
    assert isinstance(decision.command, CallModel), decision.command
    return decision.command


TEXTS = st.sampled_from(
    [
        *("", "Done.", "FAILED: no way.", "**REPLAN:** other", "[1] and [2]", '{"steps": []}'),
        *('{"steps": ["a", "b", "c"]}', '```json\n{"plan": [{"step": "x"}]}\n```', '["one"]'),
        json.dumps({"steps": [f"step {n}" for n in range(20)]}),
    ]
)
CALLS = st.lists(
    st.tuples(
        st.sampled_from(["add", "delegate", "knowledge_search"]),
        st.sampled_from(
            [
                *("{}", "not json", '{"a": 1}', '{"agent": "nobody", "message": "x"}'),
                *('{"agent": "rag", "message": "x"}', '{"agent": "rag", "message": " "}'),
                '{"agent": "tool_call", "message": "y"}',
            ]
        ),
    ),
    max_size=12,
)


@st.composite
def outcomes(draw: st.DrawFn) -> Iterator[ModelAnswered]:
    """Return what a model says, time and again."""
    answers = draw(st.lists(st.tuples(TEXTS, CALLS), min_size=1, max_size=30))
    return iter([says(text, *calls) for text, calls in answers])


def run(decision: Decision, answers: Iterator[ModelAnswered]) -> tuple[list[Outcome], Decision]:
    """Give the decider what fits its commands until it ends; after `answers` the model says "End.".

    Returns the outcomes in their order and the last decision.
    """
    journal: list[Outcome] = []
    while not isinstance(decision.command, Finish | Fail):
        outcome = _fitting(decision.command, answers, len(journal))
        journal.append(outcome)
        decision = step(decision.state, outcome)
        assert len(journal) < 200, "it does not come to an end"
    return journal, decision


def _fitting(command: Command, answers: Iterator[ModelAnswered], number: int) -> Outcome:
    match command:
        case Recall():
            return Recalled((cited(1, "a"),))
        case CallModel():
            answer = next(answers, says("End."))
            # The workbench gives calls ids that are new in the task.
            calls = tuple(
                replace(call, id=f"call_{number}_{index}")
                for index, call in enumerate(answer.tool_calls)
            )
            return replace(answer, tool_calls=calls)
        case CallTools():
            return used(command)
        case Delegate(children):
            return Delegated(tuple(ended(child.agent, "Found [1].") for child in children))
        case _:
            raise AssertionError(command)
