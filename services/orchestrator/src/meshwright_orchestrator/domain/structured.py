"""Agents that answer with data: any decider, and a check of what it ends with.

The model is told the schema and asked to answer by it. An answer that does not fit is shown to the
model once, with what is wrong; then the task fails. One step of the task is kept for that. What the
model writes on its way is told as reasoning; the answer is the output's JSON, told when it fits.
As pure as the deciders: the same outcomes give the same commands.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from meshwright_orchestrator.domain import output_schema
from meshwright_orchestrator.domain.agents import AgentSpec
from meshwright_orchestrator.domain.conversation import (
    JsonObject,
    Message,
    Role,
    Text,
    ToolUse,
)
from meshwright_orchestrator.domain.decider import (
    CallModel,
    Deciding,
    Decision,
    Fail,
    Finish,
    Say,
)
from meshwright_orchestrator.domain.errors import JournalUnreadable, OutputInvalid, failure_of
from meshwright_orchestrator.domain.journal import GraphAnswered, ModelAnswered, Outcome
from meshwright_orchestrator.domain.models import Limits, Result, TaskSpec

Begin = Callable[[AgentSpec, TaskSpec, Limits], Decision]

ANSWERING: Final = (
    "Your answer is read by a program: when you answer, write one JSON object and nothing else, no "
    "words around it. It has to fit this JSON Schema:"
)
MENDING: Final = (
    "You wrote an answer that a program could not read. Write it again as one JSON object that "
    "fits the JSON Schema, and nothing else. Keep what it says; change only what is wrong."
)
MAX_SHOWN_CHARACTERS: Final = 100_000
"""Of a wrong answer that the model is shown again."""
STEPS_TO_MEND: Final = 2
"""Fewer leave no step to keep."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything decided on. `result` of the agent, once it has one; `output` once it fits."""

    agent: AgentSpec
    schema: JsonObject
    inner: Deciding
    can_mend: bool
    result: Result | None = None
    output: JsonObject | None = None
    mended: bool = False

    def step(self, outcome: Outcome) -> Decision:
        """Return the decision after `outcome`. Raises: JournalUnreadable for one of no sense."""
        if self.result is None:
            return _of_inner(self, self.inner.step(outcome))
        match outcome:
            case ModelAnswered() if self.output is None and not self.mended:
                result = replace(self.result, usage=self.result.usage + outcome.usage)
                return _judged(replace(self, result=result, mended=True), outcome.text)
            case GraphAnswered() if self.output is not None:
                return Decision(self, Finish(self.result))
            case _:
                raise JournalUnreadable


def begin(agent: AgentSpec, spec: TaskSpec, limits: Limits, inner: Begin) -> Decision:
    """Return the first decision of a task of an agent with an output schema, which `inner` begins
    for any other.
    """
    schema = agent.output_schema
    if schema is None:
        return inner(agent, spec, limits)
    can_mend = limits.max_steps >= STEPS_TO_MEND
    kept = replace(limits, max_steps=limits.max_steps - 1) if can_mend else limits
    first = inner(agent, spec, kept)
    return _of_inner(State(agent, schema, first.state, can_mend), first)


def _of_inner(state: State, decision: Decision) -> Decision:
    state = replace(state, inner=decision.state)
    match decision.command:
        case CallModel(hidden=False, silent=False) as call:
            return replace(decision, state=state, command=_with_schema(call, state.schema))
        case Finish(result):
            last = result.messages[-1] if result.messages else None
            text = last.text if last is not None and last.role is Role.ASSISTANT else ""
            state = replace(state, result=result)
            return replace(_judged(state, text or result.answer), plan=decision.plan)
        case _:
            return replace(decision, state=state)


def _with_schema(call: CallModel, schema: JsonObject) -> CallModel:
    system, *rest = call.messages
    text = f"{system.text}\n\n{ANSWERING}\n{_shown(schema)}"
    told = replace(system, parts=(Text(text),))
    return replace(call, messages=(told, *rest), hidden=True, output_schema=schema)


def _judged(state: State, text: str) -> Decision:
    """Return what follows from the text that should be the output."""
    result = state.result
    if result is None:
        raise JournalUnreadable
    output, wrong = output_schema.read(text, state.schema)
    if output is not None:
        answer = _shown(output)
        told = replace(
            result, answer=answer, output=output, messages=_ending_with(result.messages, answer)
        )
        return Decision(replace(state, result=told, output=output), Say(answer, output))
    if state.mended or not state.can_mend:
        return Decision(state, Fail(failure_of(OutputInvalid(wrong=wrong))))
    system = f"{MENDING}\n\n{ANSWERING}\n{_shown(state.schema)}"
    shown = f"The answer:\n{text[:MAX_SHOWN_CHARACTERS]}\n\nWhat is wrong with it:\n{wrong}"
    messages = (Message(Role.SYSTEM, (Text(system),)), Message(Role.USER, (Text(shown),)))
    call = CallModel(messages, ToolUse.NONE, hidden=True, output_schema=state.schema)
    return Decision(state, call)


def _ending_with(messages: tuple[Message, ...], answer: str) -> tuple[Message, ...]:
    said = Message(Role.ASSISTANT, (Text(answer),))
    if messages and messages[-1].role is Role.ASSISTANT:
        return (*messages[:-1], said)
    return (*messages, said)


def _shown(value: JsonObject) -> str:
    return json.dumps(value, ensure_ascii=False)
