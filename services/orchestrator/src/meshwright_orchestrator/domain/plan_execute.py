"""What comes next for an agent that plans: a plan, its steps one by one, mended on the way, answer.

Each step is a run of the loop of decider.py, with a share of the task's steps and with the results
of the steps before it; so tools, approvals, limits and sources are those of every agent. As pure
as that loop: the same outcomes give the same commands.
"""

from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

from meshwright_orchestrator.domain import decider, planning
from meshwright_orchestrator.domain.agents import AgentSpec
from meshwright_orchestrator.domain.conversation import Message, ToolUse
from meshwright_orchestrator.domain.decider import CallModel, Decision, Fail, Finish, Recall
from meshwright_orchestrator.domain.errors import JournalUnreadable
from meshwright_orchestrator.domain.journal import ModelAnswered, Outcome, Recalled
from meshwright_orchestrator.domain.models import NO_USAGE, Citation, Limits, TaskSpec, Usage
from meshwright_orchestrator.domain.plan import Plan, PlanStep, PlanStepState

MAX_MENDS: Final = 3
"""Times a plan is made anew after its first."""
MAX_STEPS_OF_STEP: Final = 8
"""Model and tool steps of one step of the plan."""
LEAST_STEPS: Final = 3
"""A plan, one step and the answer: with fewer left there is nothing to plan."""


class Phase(Enum):
    """What the outcome is for that comes next."""

    RECALLING = auto()
    PLANNING = auto()
    REPAIRING = auto()
    WORKING = auto()
    MENDING = auto()
    ANSWERING = auto()
    DIRECT = auto()
    """No plan: the loop alone answers."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything decided on. `talk` follows the question: plans (the newest at `plan_at`), steps
    asked for, their results.

    `work` is the loop of the step under way, or of the answer; what it used counts beside
    `used_steps` and `spent`.
    """

    agent: AgentSpec
    spec: TaskSpec
    limits: Limits
    phase: Phase
    recalled: Recalled | None = None
    sources: tuple[Citation, ...] = ()
    talk: tuple[Message, ...] = ()
    plan_at: int = 0
    steps: tuple[PlanStep, ...] = ()
    revision: int = 0
    note: str = ""
    used_steps: int = 0
    spent: Usage = NO_USAGE
    work: decider.State | None = None

    @property
    def usage(self) -> Usage:
        """What the task consumed so far."""
        return self.spent if self.work is None else self.spent + self.work.usage

    @property
    def left(self) -> int:
        """Steps that the task may still take."""
        return self.limits.max_steps - self.used_steps

    @property
    def plan(self) -> Plan:
        """The plan as readers are told it."""
        return Plan(self.steps, max(self.revision, 1), self.note)

    def step(self, outcome: Outcome) -> Decision:
        """Return the decision after `outcome`. Raises: JournalUnreadable for one of no sense."""
        if self.work is not None:
            return _after_work(self, self.work.step(outcome))
        if self.phase is Phase.RECALLING and isinstance(outcome, Recalled):
            return _ask_for_plan(replace(self, recalled=outcome, sources=outcome.passages))
        if self.phase is not Phase.RECALLING and isinstance(outcome, ModelAnswered):
            return _after_plan(self, outcome)
        raise JournalUnreadable


def begin(agent: AgentSpec, spec: TaskSpec, limits: Limits) -> Decision:
    """Return the first decision of a task."""
    first = decider.begin(agent, spec, limits)
    state = State(agent, spec, limits, Phase.PLANNING)
    if limits.max_steps < LEAST_STEPS:
        return _with_loop(replace(state, phase=Phase.DIRECT), first)
    if isinstance(first.command, Recall):
        return Decision(replace(state, phase=Phase.RECALLING), first.command)
    return _ask_for_plan(state)


# --- plans ----------------------------------------------------------------------------------------


def _ask_for_plan(state: State) -> Decision:
    return Decision(replace(state, phase=Phase.PLANNING), _plan_call(state, ()))


def _plan_call(state: State, talk: tuple[Message, ...]) -> CallModel:
    """Ask for a plan: the tools are shown, so that it is made of what they can do, but not used."""
    call = decider.model_call(_loop(state, planning.PLANNING, talk))
    return replace(call, tool_use=ToolUse.NONE, silent=True)


def _after_plan(state: State, answer: ModelAnswered) -> Decision:
    state = replace(state, used_steps=state.used_steps + 1, spent=state.spent + answer.usage)
    steps = planning.steps_from(answer.text)
    if state.phase is Phase.MENDING:
        return _mended(state, steps)
    if steps is None and state.phase is Phase.PLANNING and state.left >= LEAST_STEPS:
        wrong = (planning.said(answer.text),) if answer.text.strip() else ()
        call = _plan_call(state, (*wrong, planning.instruction(planning.REPAIR)))
        return Decision(replace(state, phase=Phase.REPAIRING), call)
    if steps is None or not steps:
        note = planning.NO_PLAN if steps is None else ""
        return _answer_directly(replace(state, note=note))
    return _begin_plan(state, steps)


def _begin_plan(state: State, steps: tuple[str, ...], note: str = "") -> Decision:
    """Go on with new steps after those that are done, as many as the task has room for."""
    done = tuple(one for one in state.steps if one.state is not PlanStepState.PENDING)
    planned = tuple(PlanStep(text) for text in steps[: state.left - 1])
    state = replace(
        state,
        steps=(*done, *planned),
        revision=state.revision + 1,
        note=note,
    )
    plan = planning.plan_message(state.steps)
    state = replace(state, plan_at=len(state.talk), talk=(*state.talk, plan))
    return _next_step(state)


def _mended(state: State, steps: tuple[str, ...] | None) -> Decision:
    if steps is None:
        # The old plan is better than none: what it still has is done.
        left = (one.text for one in state.steps if one.state is PlanStepState.PENDING)
        return _begin_plan(state, tuple(left), "The plan could not be mended: it goes on.")
    return _begin_plan(state, steps, "The steps that were left were planned anew.")


# --- steps ----------------------------------------------------------------------------------------


def _next_step(state: State) -> Decision:
    pending = [i for i, one in enumerate(state.steps) if one.state is PlanStepState.PENDING]
    if not pending:
        return _answer(state)
    index = pending[0]
    # Each later step keeps one model call, and so does the answer.
    share = min(state.left - len(pending), MAX_STEPS_OF_STEP)
    state = replace(
        _marked(state, index, PlanStepState.RUNNING),
        phase=Phase.WORKING,
        talk=(*state.talk, planning.do_step(index + 1)),
    )
    work = _loop(state, planning.WORKING, state.talk, max_steps=share)
    return _with_loop(state, Decision(work, decider.model_call(work)), tells_plan=True)


def _after_work(state: State, inner: Decision) -> Decision:
    """Go on as the loop says, or after it when it has come to its end."""
    command = inner.command
    if state.phase is not Phase.WORKING:
        if isinstance(command, Finish):
            usage = state.spent + decider.loop_of(inner).usage
            inner = replace(inner, command=Finish(replace(command.result, usage=usage)))
        return _with_loop(state, inner)
    if isinstance(command, Finish | Fail):
        return _step_ended(state, inner)
    return _with_loop(state, inner)


def _step_ended(state: State, inner: Decision) -> Decision:
    work = decider.loop_of(inner)
    text = next((text for text in reversed(work.texts) if text.strip()), "")
    if isinstance(inner.command, Fail):
        text = f"FAILED: {inner.command.failure.message}"
    failed = planning.says_failed(text)
    index = next(i for i, one in enumerate(state.steps) if one.state is PlanStepState.RUNNING)
    state = replace(
        _marked(state, index, PlanStepState.FAILED if failed else PlanStepState.COMPLETED),
        sources=work.sources,
        talk=(*state.talk, planning.result_message(text)),
        used_steps=state.used_steps + work.used_steps,
        spent=state.spent + work.usage,
        work=None,
        note="",
    )
    wants_another = failed or planning.wants_replan(text)
    if wants_another and state.revision <= MAX_MENDS and state.left >= LEAST_STEPS:
        return _mend(state, index + 1, failed=failed)
    return _next_step(state)


def _mend(state: State, number: int, *, failed: bool) -> Decision:
    asked = planning.mend(number, failed=failed, most=min(state.left - 2, planning.MAX_PLAN_STEPS))
    state = replace(state, phase=Phase.MENDING, talk=(*state.talk, asked))
    call = _plan_call(state, state.talk)
    return Decision(state, call, plan=state.plan)


# --- answers --------------------------------------------------------------------------------------


def _answer(state: State) -> Decision:
    asked = planning.instruction("Answer the question now.")
    work = _loop(state, planning.ANSWERING, (*state.talk, asked), max_steps=1)
    state = replace(state, phase=Phase.ANSWERING)
    return _with_loop(state, Decision(work, decider.model_call(work)), tells_plan=True)


def _answer_directly(state: State) -> Decision:
    work = _loop(state, "", (), max_steps=state.left)
    state = replace(state, phase=Phase.DIRECT)
    decision = Decision(work, decider.model_call(work))
    return _with_loop(state, decision, tells_plan=bool(state.note))


# --- the loop -------------------------------------------------------------------------------------


def _loop(
    state: State,
    instructions: str,
    talk: tuple[Message, ...],
    *,
    max_steps: int = 1,
) -> decider.State:
    """Return a loop that has yet to begin, for a part of the task."""
    agent = state.agent
    if instructions:
        agent = replace(agent, instructions=f"{agent.instructions}\n\n{instructions}")
    return decider.State(
        agent,
        state.spec,
        replace(state.limits, max_steps=max_steps),
        recalled=state.recalled,
        sources=state.sources,
        talk=talk,
        kept_talk=(state.plan_at, len(talk) - 1) if state.steps and talk else (),
    )


def _with_loop(state: State, inner: Decision, *, tells_plan: bool = False) -> Decision:
    """Return the loop's decision as one of this agent: what it says in a step is reasoning."""
    command = inner.command
    if isinstance(command, CallModel) and state.phase is Phase.WORKING:
        command = replace(command, hidden=True)
    state = replace(state, work=decider.loop_of(inner))
    return Decision(state, command, plan=state.plan if tells_plan else None)


def _marked(state: State, index: int, now: PlanStepState) -> State:
    steps = list(state.steps)
    steps[index] = replace(steps[index], state=now)
    return replace(state, steps=tuple(steps))
