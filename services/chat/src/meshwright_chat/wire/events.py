"""Events of a turn: domain to protobuf and back, and the bytes the journal keeps."""

from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Final

from meshwright.chat.v1 import turn_pb2
from meshwright.types.v1 import message_pb2
from meshwright_chat.domain import models
from meshwright_chat.domain.teamwork import Handed, Planned
from meshwright_chat.domain.waiting import Interrupt, Queued
from meshwright_chat.wire import interrupts, teamwork, turns


def event_message(entry: models.Entry) -> turn_pb2.TurnEvent:
    """Return a journal entry as the wire shows it."""
    message = turn_pb2.TurnEvent(
        turn_id=entry.turn_id, sequence=entry.sequence, attempt=entry.attempt
    )
    message.time.FromDatetime(entry.time)
    _set_event(message, entry.event)
    return message


def encode(entry: models.Entry) -> bytes:
    """Return the entry as the journal keeps it: without the turn's id, which names the journal."""
    message = event_message(entry)
    message.ClearField("turn_id")
    return message.SerializeToString()


def decode(turn_id: str, data: bytes) -> models.Entry:
    """Return the entry that `encode` wrote. Raises: ValueError for an event of a later version."""
    message = turn_pb2.TurnEvent.FromString(data)
    kind = message.WhichOneof("event")
    read = _READERS.get(kind or "")
    if read is None:
        raise ValueError(f"an event of kind {kind} is not known")
    return models.Entry(
        turn_id=turn_id,
        sequence=message.sequence,
        attempt=message.attempt,
        time=message.time.ToDatetime(tzinfo=UTC),
        event=read(message),
    )


def _set_event(message: turn_pb2.TurnEvent, event: models.TurnEvent) -> None:  # noqa: C901, PLR0912 - one case an event
    match event:
        case models.TextDelta(text):
            message.message_delta.text = text
        case models.ReasoningDelta(text):
            message.reasoning_delta.text = text
        case models.Started(session_id, agent):
            message.started.CopyFrom(turn_pb2.TurnStarted(session_id=session_id, agent=agent))
        case models.Recalled(passages, degraded):
            message.recall.CopyFrom(
                turn_pb2.Recall(passages=map(turns.citation_message, passages), degraded=degraded)
            )
        case models.ToolCalled(call_id, name, arguments):
            message.tool_call.CopyFrom(
                message_pb2.ToolCall(id=call_id, name=name, arguments_json=arguments)
            )
        case models.ToolAnswered(call_id, name, result, is_error, truncated):
            message.tool_result.CopyFrom(
                turn_pb2.ToolResult(
                    tool_call_id=call_id,
                    name=name,
                    result_json=result,
                    is_error=is_error,
                    truncated=truncated,
                )
            )
        case models.Cited(citation):
            message.citation.CopyFrom(turns.citation_message(citation))
        case models.Metered(usage):
            message.usage.CopyFrom(turns.usage_message(usage))
        case models.Restarted(attempt, keep):
            message.restarted.CopyFrom(
                turn_pb2.TurnRestarted(attempt=attempt, keep_characters=keep)
            )
        case Interrupt():
            message.interrupt.CopyFrom(interrupts.interrupt_message(event))
        case Queued():
            message.queued.CopyFrom(interrupts.queued_message(event))
        case Planned():
            message.plan.CopyFrom(teamwork.plan_message(event))
        case Handed():
            message.child.CopyFrom(teamwork.child_message(event))
        case models.Completed(answer, message_id, version, usage):
            message.completed.CopyFrom(
                turn_pb2.TurnCompleted(
                    answer=answer,
                    message_id=message_id,
                    context_version=version,
                    usage=turns.usage_message(usage),
                )
            )
        case models.Failed(reason, text, retryable):
            message.failed.CopyFrom(
                turn_pb2.TurnFailed(reason=reason, message=text, retryable=retryable)
            )
        case models.Cancelled(cancelled_by):
            message.cancelled.CopyFrom(turn_pb2.TurnCancelled(cancelled_by=cancelled_by))


def _tool_called(message: turn_pb2.TurnEvent) -> models.TurnEvent:
    call = message.tool_call
    return models.ToolCalled(call.id, call.name, call.arguments_json)


def _tool_answered(message: turn_pb2.TurnEvent) -> models.TurnEvent:
    result = message.tool_result
    return models.ToolAnswered(
        result.tool_call_id, result.name, result.result_json, result.is_error, result.truncated
    )


def _recalled(message: turn_pb2.TurnEvent) -> models.TurnEvent:
    recall = message.recall
    return models.Recalled(turns.citations_from(recall.passages), tuple(recall.degraded))


def _completed(message: turn_pb2.TurnEvent) -> models.TurnEvent:
    done = message.completed
    return models.Completed(
        done.answer, done.message_id, done.context_version, turns.usage_from(done.usage)
    )


def _failed(message: turn_pb2.TurnEvent) -> models.TurnEvent:
    failed = message.failed
    return models.Failed(failed.reason, failed.message, failed.retryable)


_READERS: Final[Mapping[str, Callable[[turn_pb2.TurnEvent], models.TurnEvent]]] = {
    "started": lambda m: models.Started(m.started.session_id, m.started.agent),
    "recall": _recalled,
    "message_delta": lambda m: models.TextDelta(m.message_delta.text),
    "reasoning_delta": lambda m: models.ReasoningDelta(m.reasoning_delta.text),
    "tool_call": _tool_called,
    "tool_result": _tool_answered,
    "citation": lambda m: models.Cited(turns.citation_from(m.citation)),
    "usage": lambda m: models.Metered(turns.usage_from(m.usage)),
    "interrupt": lambda m: interrupts.interrupt_from(m.interrupt, m.interrupt.task_id),
    "queued": lambda m: interrupts.queued_from(m.queued),
    "plan": lambda m: teamwork.plan_from(m.plan),
    "child": lambda m: teamwork.child_from(m.child),
    "restarted": lambda m: models.Restarted(m.restarted.attempt, m.restarted.keep_characters),
    "completed": _completed,
    "failed": _failed,
    "cancelled": lambda m: models.Cancelled(m.cancelled.cancelled_by),
}
