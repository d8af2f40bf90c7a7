"""What the events of turns and tasks are called and say, on whatever stream they are sent."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from meshwright.chat.v1 import turn_pb2
from meshwright.orchestrator.v1 import task_pb2
from meshwright.types.v1 import message_pb2, plan_pb2, usage_pb2
from meshwright_gateway.wire import values
from meshwright_gateway.wire.interrupts import interrupt_data

TURN_EVENTS: Final = {
    "queued": "turn.queued",
    "started": "turn.started",
    "recall": "recall",
    "message_delta": "message.delta",
    "reasoning_delta": "reasoning.delta",
    "tool_call": "tool.call",
    "tool_result": "tool.result",
    "citation": "citation",
    "interrupt": "interrupt",
    "plan": "plan",
    "child": "task.child",
    "usage": "usage",
    "completed": "turn.completed",
    "failed": "turn.failed",
    "cancelled": "turn.cancelled",
    "restarted": "turn.restarted",
}
"""Event names of a turn's stream by the names of `TurnEvent`."""

TASK_EVENTS: Final = {
    "started": "task.started",
    "recall": "recall",
    "chunk": "message.delta",
    "tool_call": "tool.call",
    "tool_result": "tool.result",
    "interrupt": "interrupt",
    "child": "task.child",
    "plan": "plan",
    "checkpoint": "task.checkpoint",
    "final": "task.completed",
    "error": "task.failed",
}
"""Event names of a task's stream by the names of `TaskEvent`."""


def of_turn(event: turn_pb2.TurnEvent) -> tuple[str, dict[str, object]]:
    """Return the name and the data of an event of a turn."""
    kind = event.WhichOneof("event") or ""
    data = _TURN_DATA[kind](event) if kind in _TURN_DATA else {}
    return TURN_EVENTS.get(kind, "unknown"), data


def of_task(event: task_pb2.TaskEvent) -> tuple[str, dict[str, object]]:
    """Return the name and the data of an event of a task; of text and reasoning, the text."""
    kind = event.WhichOneof("event") or ""
    if kind == "chunk" and not event.chunk.text:
        return "reasoning.delta", {"text": event.chunk.reasoning}
    data = _TASK_DATA[kind](event) if kind in _TASK_DATA else {}
    return TASK_EVENTS.get(kind, "unknown"), data


def _usage(usage: usage_pb2.TokenUsage) -> dict[str, object]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cost_micro_usd": usage.cost_micro_usd,
        "estimated": usage.estimated,
    }


def _citation(citation: message_pb2.Citation) -> dict[str, object]:
    return {
        "number": citation.number,
        "document_id": citation.document_id,
        "document_name": citation.document_name,
        "page": citation.page or None,
        "start_offset": citation.start_offset,
        "end_offset": citation.end_offset,
        "quote": citation.quote,
        "score": citation.score,
        "chunk_id": citation.chunk_id,
        "heading_path": list(citation.heading_path),
    }


def _tool_call(call: message_pb2.ToolCall) -> dict[str, object]:
    return {"id": call.id, "name": call.name, "arguments_json": call.arguments_json}


def _tool_result(result: turn_pb2.ToolResult | task_pb2.TaskToolResult) -> dict[str, object]:
    return {
        "tool_call_id": result.tool_call_id,
        "name": result.name,
        "result_json": result.result_json,
        "is_error": result.is_error,
        "truncated": result.truncated,
    }


def _recall(recall: turn_pb2.Recall | task_pb2.TaskRecall) -> dict[str, object]:
    return {
        "passages": [_citation(passage) for passage in recall.passages],
        "degraded": list(recall.degraded),
    }


def _interrupt(interrupt: turn_pb2.Interrupt) -> dict[str, object]:
    expires = interrupt.expire_time.ToJsonString() if interrupt.HasField("expire_time") else None
    return {
        **interrupt_data(interrupt),
        "task_id": interrupt.task_id,
        "expire_time": expires,
    }


def _child(child: task_pb2.TaskChild) -> dict[str, object]:
    return {
        "task_id": child.task_id,
        "agent": child.agent,
        "state": values.enum_name(task_pb2.TaskState, child.state, "TASK_STATE_"),
    }


def _plan(plan: plan_pb2.Plan) -> dict[str, object]:
    return {
        "steps": [
            {
                "text": step.text,
                "state": values.enum_name(plan_pb2.PlanStepState, step.state, "PLAN_STEP_STATE_"),
            }
            for step in plan.steps
        ],
        "revision": plan.revision,
        "note": plan.note,
    }


_Data = Callable[[Any], dict[str, object]]

_TURN_DATA: Final[Mapping[str, _Data]] = {
    "message_delta": lambda event: {"text": event.message_delta.text},
    "reasoning_delta": lambda event: {"text": event.reasoning_delta.text},
    "queued": lambda event: {
        "turn_id": event.turn_id,
        "session_id": event.queued.session_id,
        "position": event.queued.position,
        "running_turn_id": event.queued.running_turn_id,
        "expire_time": event.queued.expire_time.ToJsonString(),
        "time": event.time.ToJsonString(),
    },
    "started": lambda event: {
        "turn_id": event.turn_id,
        "session_id": event.started.session_id,
        "agent": event.started.agent,
        "attempt": event.attempt,
        "time": event.time.ToJsonString(),
    },
    "recall": lambda event: _recall(event.recall),
    "tool_call": lambda event: _tool_call(event.tool_call),
    "tool_result": lambda event: _tool_result(event.tool_result),
    "citation": lambda event: _citation(event.citation),
    "interrupt": lambda event: _interrupt(event.interrupt),
    "plan": lambda event: _plan(event.plan),
    "child": lambda event: _child(event.child),
    "usage": lambda event: _usage(event.usage),
    "completed": lambda event: {
        "turn_id": event.turn_id,
        "answer": event.completed.answer,
        "message_id": event.completed.message_id,
        "context_version": event.completed.context_version,
        "usage": _usage(event.completed.usage),
        "time": event.time.ToJsonString(),
    },
    "failed": lambda event: {
        "turn_id": event.turn_id,
        "reason": event.failed.reason,
        "message": event.failed.message,
        "retryable": event.failed.retryable,
        "time": event.time.ToJsonString(),
    },
    "cancelled": lambda event: {
        "turn_id": event.turn_id,
        "cancelled_by": event.cancelled.cancelled_by,
        "time": event.time.ToJsonString(),
    },
    "restarted": lambda event: {
        "attempt": event.restarted.attempt,
        "keep_characters": event.restarted.keep_characters,
    },
}

_TASK_DATA: Final[Mapping[str, _Data]] = {
    "chunk": lambda event: {"text": event.chunk.text},
    "started": lambda event: {
        "task_id": event.task_id,
        "agent": event.started.agent,
        "attempt": event.attempt,
        "resumed_steps": event.started.resumed_steps,
    },
    "recall": lambda event: _recall(event.recall),
    "tool_call": lambda event: _tool_call(event.tool_call),
    "tool_result": lambda event: _tool_result(event.tool_result),
    "interrupt": lambda event: interrupt_data(event.interrupt),
    "child": lambda event: _child(event.child),
    "plan": lambda event: _plan(event.plan),
    "checkpoint": lambda event: {
        "step": event.checkpoint.step,
        "answer_characters": event.checkpoint.answer_characters,
    },
    "final": lambda event: {
        "task_id": event.task_id,
        "answer": event.final.answer,
        "citations": [_citation(citation) for citation in event.final.citations],
        "usage": _usage(event.final.usage),
        "output": values.object_from(event.final.output),
    },
    "error": lambda event: {
        "task_id": event.task_id,
        "reason": event.error.reason,
        "message": event.error.message,
        "retryable": event.error.retryable,
    },
}
