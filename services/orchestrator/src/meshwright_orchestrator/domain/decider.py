"""What comes next in a task: a pure function of the agent, the question and the outcomes so far.

No clock, no chance, no input or output: the same outcomes give the same commands, in any process
and any attempt. A change that lets a recorded journal give other commands needs a new
ENGINE_VERSION, and the old decider stays for the tasks that began with it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeAlias

from meshwright_orchestrator.domain import approvals, budget, citations
from meshwright_orchestrator.domain.agents import AgentSpec
from meshwright_orchestrator.domain.conversation import (
    JsonObject,
    Message,
    Role,
    Text,
    ToolCall,
    ToolUse,
)
from meshwright_orchestrator.domain.errors import JournalUnreadable, StepLimit, failure_of
from meshwright_orchestrator.domain.events import joined
from meshwright_orchestrator.domain.journal import (
    ModelAnswered,
    Outcome,
    Recalled,
    ToolsAnswered,
)
from meshwright_orchestrator.domain.models import (
    NO_USAGE,
    Citation,
    Failure,
    Limits,
    Result,
    TaskSpec,
    Usage,
)
from meshwright_orchestrator.domain.plan import Plan
from meshwright_orchestrator.domain.prompts import system_prompt
from meshwright_orchestrator.domain.waiting import Ask, Asked, Delegate, Sleep

ENGINE_VERSION: Final = 3
KNOWN_VERSIONS: Final = (1, 2, 3)
"""Of which tasks are gone on with here. In the first one no agent asked memory, before the third
none waited for people or other agents: limits and agents say so, and with those of older tasks
this decider gives the commands of their engines."""
MAX_REPEATS: Final = 3
"""The same call with the same arguments is made fewer times than this."""
MAX_QUERY_CHARACTERS: Final = 4_000
"""What a search takes (rag/v1/retrieval_service.proto)."""
LONG_CONVERSATION: Final = 20
"""So many messages may be all that is left of a longer conversation."""
NO_TOOL: Final = "TOOL_NOT_FOUND"
STEPS_TO_USE_A_TOOL: Final = 2
"""Calling a tool, and reading what it returned."""

_sorted_json = json.JSONEncoder(sort_keys=True).encode


@dataclass(frozen=True, slots=True)
class Recall:
    """Search the documents for `top_k` passages and memory for `memories`; 0: leave it alone.

    `summaries`: ask too what the conversation was about, as far as it was summarised.
    """

    query: str
    top_k: int
    memories: int = 0
    summaries: bool = False


@dataclass(frozen=True, slots=True)
class CallModel:
    """Let the model write the next message.

    `hidden`: its text is told as reasoning; `silent`: it is told to nobody. `agents`: a tool is
    offered, too, that hands work to these. `output_schema`: what its text should be, as JSON.
    """

    messages: tuple[Message, ...]
    tool_use: ToolUse
    hidden: bool = False
    silent: bool = False
    agents: tuple[str, ...] = ()
    output_schema: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A tool call to make, or one that is answered by `refusal` instead, for `reason`.

    `answer`: what it came to already, as JSON, since a person answered it and no tool.
    """

    call: ToolCall
    refusal: str = ""
    reason: str = "REPEATED_CALL"
    answer: str = ""


@dataclass(frozen=True, slots=True)
class CallTools:
    """Make the calls, all at once."""

    calls: tuple[PlannedCall, ...]


@dataclass(frozen=True, slots=True)
class Say:
    """Tell readers a text that no model wrote for them: the answer, when it stands for `output`."""

    text: str
    output: JsonObject


@dataclass(frozen=True, slots=True)
class Finish:
    """The task has its result."""

    result: Result


@dataclass(frozen=True, slots=True)
class Fail:
    """The task cannot come to a result."""

    failure: Failure


Command: TypeAlias = Recall | CallModel | CallTools | Ask | Delegate | Sleep | Say | Finish | Fail


class Deciding(Protocol):
    """Everything decided on so far, by an agent of any type."""

    def step(self, outcome: Outcome) -> "Decision":
        """Return the decision after `outcome`. Raises: JournalUnreadable for one of no sense."""
        ...


@dataclass(frozen=True, slots=True)
class State:
    """Everything decided on. `exchange` is what the agent added to the conversation so far; `talk`
    stands between both, when the loop works on a part of what was asked; `kept_talk` are indexes of
    it that a model always gets to see.
    """

    agent: AgentSpec
    spec: TaskSpec
    limits: Limits
    talk: tuple[Message, ...] = ()
    kept_talk: tuple[int, ...] = ()
    recalled: Recalled | None = None
    sources: tuple[Citation, ...] = ()
    exchange: tuple[Message, ...] = ()
    texts: tuple[str, ...] = ()
    used_steps: int = 0
    model_calls: int = 0
    usage: Usage = NO_USAGE
    calls_made: tuple[str, ...] = ()
    repeats_itself: bool = False
    undecided: tuple[PlannedCall, ...] = ()
    """Calls of which some wait for a person, and the others for those."""

    @property
    def tool_use(self) -> ToolUse:
        """How the next model call may use tools: not at all when their results were of no use."""
        left = self.limits.max_steps - self.used_steps - 1
        if self.repeats_itself or left < STEPS_TO_USE_A_TOOL:
            return ToolUse.NONE
        return ToolUse.AUTO if self.model_calls else self.agent.first_tool_use

    def step(self, outcome: Outcome) -> "Decision":
        """Return the decision after `outcome`. Raises: JournalUnreadable for one of no sense."""
        return _step(self, outcome)


@dataclass(frozen=True, slots=True)
class Decision:
    """Where the task stands, and what to do next."""

    state: Deciding
    command: Command
    plan: Plan | None = None
    """What readers are told of a plan that changed by the last outcome."""


def begin(agent: AgentSpec, spec: TaskSpec, limits: Limits) -> Decision:
    """Return the first decision of a task."""
    state = State(agent, spec, limits)
    query = spec.messages[-1].text.strip()[:MAX_QUERY_CHARACTERS]
    passages = limits.recall_top_k if agent.recalls else 0
    memories = limits.memory_top_k if agent.remembers else 0
    if query and (passages or memories):
        long = min(LONG_CONVERSATION, agent.max_history_messages or LONG_CONVERSATION)
        summaries = bool(memories and spec.session_id) and len(spec.messages) >= long
        return Decision(state, Recall(query, passages, memories, summaries))
    return Decision(state, model_call(state))


def step(state: Deciding, outcome: Outcome) -> Decision:
    """Return the decision after `outcome`. Raises: JournalUnreadable for one of no sense."""
    return state.step(outcome)


def _step(state: State, outcome: Outcome) -> Decision:
    match outcome:
        case Recalled():
            state = replace(state, recalled=outcome, sources=outcome.passages)
            return Decision(state, model_call(state))
        case ModelAnswered():
            return _after_model(state, outcome)
        case Asked() if state.undecided:
            calls = approvals.decided(state.agent, state.undecided, outcome)
            return Decision(replace(state, undecided=()), CallTools(calls))
        case ToolsAnswered():
            return _after_tools(state, outcome)
        case _:
            raise JournalUnreadable


def loop_of(decision: Decision) -> State:
    """Return the loop's state from its own decision."""
    assert isinstance(decision.state, State)  # noqa: S101 - the loop decides with no other
    return decision.state


def model_call(state: State) -> CallModel:
    """Return the command that lets the model go on from here."""
    history = (*state.spec.messages, *state.talk, *state.exchange)
    question = len(state.spec.messages) - 1
    kept = (question, *(question + 1 + index for index in state.kept_talk))
    shown = budget.fitted(history, kept, state.limits.history_tokens)
    prompt = system_prompt(state.agent.instructions, state.recalled)
    system = Message(Role.SYSTEM, (Text(prompt),))
    return CallModel((system, *shown), state.tool_use)


def _after_model(state: State, answer: ModelAnswered) -> Decision:
    forbidden = state.tool_use is ToolUse.NONE
    if forbidden and answer.text:
        # It answered although it also asked for more: the answer is what counts.
        answer = replace(answer, tool_calls=())
    message = Message(
        Role.ASSISTANT,
        (Text(answer.text),) if answer.text else (),
        tool_calls=answer.tool_calls,
    )
    calls = () if forbidden else answer.tool_calls
    planned, made, repeats = _planned(state, calls)
    state = replace(
        state,
        exchange=(*state.exchange, message),
        texts=(*state.texts, answer.text),
        used_steps=state.used_steps + 1,
        model_calls=state.model_calls + 1,
        usage=state.usage + answer.usage,
        calls_made=made,
        repeats_itself=repeats if calls else state.repeats_itself,
    )
    if not answer.tool_calls:
        return Decision(state, _end(state, answer))
    if forbidden:
        return Decision(state, Fail(failure_of(_no_end(state))))
    planned, questions = approvals.prepared(state.agent, planned)
    if questions:
        return Decision(replace(state, undecided=planned), Ask(questions))
    return Decision(state, CallTools(planned))


def _no_end(state: State) -> StepLimit:
    steps = str(state.limits.max_steps)
    if state.repeats_itself:
        return StepLimit("the model asked for the same tool call again and again", max_steps=steps)
    return StepLimit(max_steps=steps)


def _end(state: State, answer: ModelAnswered) -> Finish | Fail:
    text = joined(state.texts)
    if not text:
        if answer.finish_reason == "content_filter":
            return Fail(Failure("PROVIDER_REJECTED", "the provider withheld the answer", False))
        return Fail(Failure("PROVIDER_PROTOCOL", "the model ended without an answer", True))
    # An empty last message after texts of earlier ones: those are the answer.
    added = state.exchange if answer.text else state.exchange[:-1]
    return Finish(Result(text, citations.cited(text, state.sources), added, state.usage))


def _planned(
    state: State, calls: Sequence[ToolCall]
) -> tuple[Sequence[PlannedCall], tuple[str, ...], bool]:
    """Return the calls as they are to be made, all that were made then, and whether one repeats."""
    made = list(state.calls_made)
    repeats = False
    planned: list[PlannedCall] = []
    for call in calls:
        key = _key(call)
        if not may_call(state.agent, call):
            planned.append(PlannedCall(call, f"you have no tool named {call.name}", NO_TOOL))
        elif made.count(key) < MAX_REPEATS - 1:
            planned.append(PlannedCall(call))
        else:
            repeats = True
            planned.append(
                PlannedCall(call, "this call was made before with the same arguments: answer now")
            )
        made.append(key)
    return planned, tuple(made), repeats


def may_call(agent: AgentSpec, call: ToolCall) -> bool:
    """Return whether the call is of a tool that the agent has, whatever the model was offered."""
    return agent.may_call(call.name)


def _key(call: ToolCall) -> str:
    try:
        arguments = _sorted_json(json.loads(call.arguments_json or "{}"))
    except (ValueError, RecursionError):
        arguments = call.arguments_json
    return f"{call.name} {arguments}"


def _after_tools(state: State, outcome: ToolsAnswered) -> Decision:
    sources = state.sources
    messages: list[Message] = []
    for result in outcome.results:
        numbers: Mapping[str, int]
        sources, numbers = citations.numbered_on(sources, result.citations)
        text = citations.for_model(result, numbers)
        messages.append(Message(Role.TOOL, (Text(text),), tool_call_id=result.tool_call_id))
    state = replace(
        state,
        sources=sources,
        exchange=(*state.exchange, *messages),
        used_steps=state.used_steps + 1,
    )
    return Decision(state, model_call(state))
