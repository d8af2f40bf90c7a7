"""What readers and the event log are told of tasks, as messages."""

from typing import Final

from meshwright.orchestrator.v1 import task_pb2
from meshwright.types.v1 import plan_pb2
from meshwright_common.events.notification import Notice
from meshwright_orchestrator.domain.conversation import JsonObject, ToolCall
from meshwright_orchestrator.domain.events import (
    Checkpoint,
    Child,
    Chunk,
    Interrupted,
    Started,
    Told,
)
from meshwright_orchestrator.domain.journal import Recalled, ToolResult
from meshwright_orchestrator.domain.models import Failure, Result, Task, TaskState
from meshwright_orchestrator.domain.plan import Plan, PlanStepState
from meshwright_orchestrator.wire import values
from meshwright_orchestrator.wire.questions import question_message

_ENDS: Final = {
    TaskState.COMPLETED: "is completed",
    TaskState.FAILED: "failed",
    TaskState.CANCELLED: "was cancelled",
    TaskState.EXPIRED: "ran out of time",
}
_PLAN_STEP_STATES: Final = {
    PlanStepState.PENDING: plan_pb2.PLAN_STEP_STATE_PENDING,
    PlanStepState.RUNNING: plan_pb2.PLAN_STEP_STATE_RUNNING,
    PlanStepState.COMPLETED: plan_pb2.PLAN_STEP_STATE_COMPLETED,
    PlanStepState.FAILED: plan_pb2.PLAN_STEP_STATE_FAILED,
}


def event_message(told: Told) -> task_pb2.TaskEvent:  # noqa: C901, PLR0912 - one case an event
    """Return an event as the wire shows it."""
    message = task_pb2.TaskEvent(task_id=told.task_id, sequence=told.sequence, attempt=told.attempt)
    match told.event:
        case Chunk(text, reasoning):
            chunk = message.chunk
            chunk.SetInParent()
            if text:
                chunk.text = text
            if reasoning:
                chunk.reasoning = reasoning
        case Started(agent, resumed_steps):
            message.started.agent = agent
            message.started.resumed_steps = resumed_steps
        case Recalled(passages, degraded):
            message.recall.SetInParent()
            message.recall.passages.extend(map(values.citation_message, passages))
            message.recall.degraded.extend(degraded)
        case ToolCall() as call:
            message.tool_call.CopyFrom(values.call_message(call))
        case ToolResult() as result:
            message.tool_result.CopyFrom(_tool_result_message(result))
        case Interrupted(interrupt_id, question):
            message.interrupt.CopyFrom(question_message(interrupt_id, question))
        case Child(task_id, agent, state):
            message.child.task_id = task_id
            message.child.agent = agent
            message.child.state = task_pb2.TaskState.Value(f"TASK_STATE_{state.name}")
        case Plan() as plan:
            message.plan.CopyFrom(_plan_message(plan))
        case Checkpoint(step, answer_characters):
            message.checkpoint.step = step
            message.checkpoint.answer_characters = answer_characters
        case Result() as result:
            message.final.CopyFrom(final_message(result))
        case Failure() as failure:
            message.error.CopyFrom(error_message(failure))
    return message


def _plan_message(plan: Plan) -> plan_pb2.Plan:
    return plan_pb2.Plan(
        steps=(
            plan_pb2.PlanStep(text=step.text, state=_PLAN_STEP_STATES[step.state])
            for step in plan.steps
        ),
        revision=plan.revision,
        note=plan.note,
    )


def _tool_result_message(result: ToolResult) -> task_pb2.TaskToolResult:
    return task_pb2.TaskToolResult(
        tool_call_id=result.tool_call_id,
        name=result.name,
        result_json=result.result_json,
        is_error=result.is_error,
        truncated=result.truncated,
    )


def final_message(result: Result) -> task_pb2.TaskFinal:
    """Return a result as the wire shows it."""
    return task_pb2.TaskFinal(
        answer=result.answer,
        citations=map(values.citation_message, result.citations),
        messages=map(values.message_message, result.messages),
        usage=values.usage_message(result.usage),
        output=values.struct_message(result.output),
    )


def error_message(failure: Failure) -> task_pb2.TaskError:
    """Return a failure as the wire shows it."""
    return task_pb2.TaskError(
        reason=failure.reason, message=failure.message, retryable=failure.retryable
    )


def task_notice(task: Task) -> Notice:
    """Return what the owner of a detached task is told of its end: no content."""
    reason = "" if task.failure is None else task.failure.reason
    return Notice(
        user_id=task.owner.subject,
        kind=f"task.{task.state.value}",
        title=f"A task of agent {task.spec.agent} {_ENDS[task.state]}.",
        resource=f"task/{task.task_id}",
        details={
            "task_id": task.task_id,
            "agent": task.spec.agent,
            "session_id": task.spec.session_id,
            "error_reason": reason,
        },
    )


def task_result_data(task: Task) -> JsonObject:
    """Return the facts about an ended task for topic task.result: no content."""
    ended_at = task.ended_at or task.updated_at
    duration_seconds = max((ended_at - task.created_at).total_seconds(), 0.0)
    tokens = task.usage.prompt_tokens + task.usage.completion_tokens
    answer_characters = 0 if task.result is None else len(task.result.answer)
    # The JSON form of meshwright.events.v1.TaskResult, in which numbers of 64 bits are texts: made
    # without the message, by whose way it takes ten times as long.
    return {
        "task_id": task.task_id,
        "agent": task.spec.agent,
        "user_id": task.owner.subject,
        "session_id": task.spec.session_id,
        "state": task.state.value,
        "attempt": task.attempt,
        "step_count": task.step_count,
        "total_tokens": str(tokens),
        "cost_micro_usd": str(task.usage.cost_micro_usd),
        "duration_milliseconds": str(round(duration_seconds * 1000)),
        "error_reason": "" if task.failure is None else task.failure.reason,
        "answer_characters": str(answer_characters),
        "detached": task.detached,
    }
