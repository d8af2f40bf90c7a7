"""The tasks that do what steps are for, and what becomes of their results.

An agent's task is one as any other. A tool call and a question to a person are tasks of two agents
that nobody else asks: leases, fences, cancelling and waiting are then the same for all.
"""

from collections.abc import Mapping
from typing import Final

import orjson

from meshwright_orchestrator.domain.conversation import Message, Role, Text, ToolCall
from meshwright_orchestrator.domain.decider import PlannedCall
from meshwright_orchestrator.domain.journal import ToolResult, ToolsAnswered
from meshwright_orchestrator.domain.models import (
    Failure,
    Priority,
    Result,
    TaskSpec,
    TaskState,
)
from meshwright_orchestrator.domain.ports import Ending
from meshwright_orchestrator.domain.waiting import Asked, InterruptKind, Question
from meshwright_orchestrator.domain.workbench import Workbench

TOOL_STEP: Final = "workflow-tool"
"""Makes one tool call. Listed to nobody."""
APPROVAL_STEP: Final = "workflow-approval"
"""Asks one person one question. Listed to nobody."""
STEP_AGENTS: Final = frozenset({TOOL_STEP, APPROVAL_STEP})

NO_ANSWER: Final = Failure("TASK_EXPIRED", "nobody answered in time", False)
FOR_GOOD: Final = frozenset(
    {
        *("TOOL_NOT_FOUND", "TOOL_ARGUMENTS_INVALID", "PERMISSION_DENIED", "INVALID_ARGUMENT"),
        *("OUTCOME_UNKNOWN", "EGRESS_REFUSED", "UNAUTHENTICATED", "TENANT_SUSPENDED"),
    }
)
"""Reasons of tool results that another attempt cannot mend, or may not."""
MAX_MESSAGE_CHARACTERS: Final = 2_000
_VALUE: Final = "value"


def agent_task(agent: str, message: str, given: Mapping[str, object] | None) -> TaskSpec:
    """Return what an agent is asked by a step."""
    text = message or orjson.dumps(given).decode()
    return TaskSpec(
        agent=agent,
        messages=(Message(Role.USER, (Text(text),)),),
        priority=Priority.NORMAL,
        input=given,
    )


def tool_task(tool: str, arguments: Mapping[str, object]) -> TaskSpec:
    """Return the task that makes a step's tool call."""
    return _own_task(TOOL_STEP, {"tool": tool, "arguments": arguments})


def approval_task(
    question: str, answer_schema: Mapping[str, object] | None, seconds: float
) -> TaskSpec:
    """Return the task that asks a step's question; nobody can answer after so many seconds."""
    given = {"question": question, "answer_schema": answer_schema, "seconds": seconds}
    return _own_task(APPROVAL_STEP, given)


def _own_task(agent: str, given: Mapping[str, object]) -> TaskSpec:
    return TaskSpec(agent=agent, messages=(), priority=Priority.NORMAL, input=given)


def text_of(value: object) -> str:
    """Return a value as it stands in a text."""
    return orjson.dumps(value).decode()


def output_of(agent: str, result: Result) -> object:
    """Return what the result of an agent's task is as the output of its step."""
    if result.output is None:
        return {"answer": result.answer}
    if agent in STEP_AGENTS:
        # A tool's result may be any JSON, and stands in an object of ours.
        return result.output.get(_VALUE)
    return dict(result.output)


class ToolStepEngine:
    """Works on tasks of TOOL_STEP: one call, journaled, then the end."""

    async def work(self, bench: Workbench) -> Ending:
        """Make the call. Raises: LeaseLost."""
        given = bench.task.spec.input or {}
        arguments = orjson.dumps(given.get("arguments") or {}).decode()
        call = ToolCall("call_1", str(given.get("tool", "")), arguments)
        outcome = _journaled(bench)
        answered = outcome or await bench.use_tools((PlannedCall(call),))
        result = answered.results[0]
        steps = bench.unwritten(answered) if outcome is None else bench.unwritten()
        if result.is_error:
            return Ending(TaskState.FAILED, failure=_failure(result), steps=steps)
        output = {_VALUE: _parsed(result)}
        return Ending(TaskState.COMPLETED, result=Result("", output=output), steps=steps)


def _journaled(bench: Workbench) -> ToolsAnswered | None:
    for step in bench.steps:
        if isinstance(step.outcome, ToolsAnswered):
            return step.outcome
    return None


def _parsed(result: ToolResult) -> object:
    try:
        return orjson.loads(result.result_json)
    except orjson.JSONDecodeError:
        # It was cut: what is left is text.
        return result.result_json


def _failure(result: ToolResult) -> Failure:
    value = _parsed(result)
    reason, text = "TOOL_FAILED", result.result_json
    if isinstance(value, dict):
        reason = str(value.get("reason") or reason)
        text = str(value.get("error") or text)
    return Failure(reason, text[:MAX_MESSAGE_CHARACTERS], reason not in FOR_GOOD)


class ApprovalStepEngine:
    """Works on tasks of APPROVAL_STEP: one question; the answer is the output."""

    async def work(self, bench: Workbench) -> Ending:
        """Ask. Raises: Suspended while there is no answer; LeaseLost."""
        given = bench.task.spec.input or {}
        schema, seconds = given.get("answer_schema"), given.get("seconds")
        question = Question(
            kind=InterruptKind.APPROVAL if schema is None else InterruptKind.QUESTION,
            text=str(given.get("question", "")),
            answer_schema=schema if isinstance(schema, Mapping) else None,
            expires_seconds=float(seconds) if isinstance(seconds, int | float) else 0.0,
        )
        outcome = _asked(bench)
        asked = outcome or await bench.ask((question,))
        answer = asked.answers[0]
        steps = bench.unwritten(asked) if outcome is None else bench.unwritten()
        if answer.expired:
            return Ending(TaskState.FAILED, failure=NO_ANSWER, steps=steps)
        output = {_VALUE: dict(answer.value)}
        return Ending(TaskState.COMPLETED, result=Result("", output=output), steps=steps)


def _asked(bench: Workbench) -> Asked | None:
    for step in bench.steps:
        if isinstance(step.outcome, Asked):
            return step.outcome
    return None
