"""Protobuf to domain and back, with the checks of shape."""

from collections.abc import Sequence
from datetime import UTC
from typing import Final

from google.protobuf import json_format

from meshwright.chat.v1 import chat_service_pb2, turn_pb2
from meshwright.types.v1 import message_pb2, usage_pb2
from meshwright_chat.domain import models
from meshwright_chat.domain.errors import PolicyNotServed
from meshwright_common.errors import invalid
from meshwright_common.ids import parse_id

MAX_QUESTION_BYTES: Final = 256 * 1024
MAX_METADATA_BYTES: Final = 16 * 1024
MAX_REQUEST_ID_CHARACTERS: Final = 128
MAX_NAME_CHARACTERS: Final = 200
MAX_KNOWLEDGE_BASES: Final = 16

_STATES: Final = {
    models.TurnState.RUNNING: turn_pb2.TURN_STATE_RUNNING,
    models.TurnState.COMPLETED: turn_pb2.TURN_STATE_COMPLETED,
    models.TurnState.FAILED: turn_pb2.TURN_STATE_FAILED,
    models.TurnState.CANCELLED: turn_pb2.TURN_STATE_CANCELLED,
}
_SERVED_POLICIES: Final = (
    chat_service_pb2.CONCURRENCY_POLICY_UNSPECIFIED,
    chat_service_pb2.CONCURRENCY_POLICY_REJECT,
)


def request_from(request: chat_service_pb2.StreamChatRequest) -> models.TurnRequest:
    """Return the question. Raises: InvalidArgument naming the field; PolicyNotServed."""
    if not request.message.strip():
        raise invalid("message", "must not be empty")
    size = len(request.message.encode())
    if size > MAX_QUESTION_BYTES:
        raise invalid("message", f"must be at most {MAX_QUESTION_BYTES} bytes, has {size}")
    if len(request.request_id) > MAX_REQUEST_ID_CHARACTERS:
        raise invalid("request_id", f"must be at most {MAX_REQUEST_ID_CHARACTERS} characters")
    for field in ("agent", "model"):
        if len(getattr(request, field)) > MAX_NAME_CHARACTERS:
            raise invalid(field, f"must be at most {MAX_NAME_CHARACTERS} characters")
    if len(request.knowledge_base_ids) > MAX_KNOWLEDGE_BASES:
        raise invalid("knowledge_base_ids", f"must be at most {MAX_KNOWLEDGE_BASES}")
    if request.metadata.ByteSize() > MAX_METADATA_BYTES:
        raise invalid("metadata", f"must be at most {MAX_METADATA_BYTES} bytes")
    if request.concurrency not in _SERVED_POLICIES:
        raise PolicyNotServed
    return models.TurnRequest(
        session_id=parse_id(request.session_id, "session_id") if request.session_id else "",
        question=request.message,
        agent=request.agent,
        model=request.model,
        knowledge_base_ids=tuple(request.knowledge_base_ids),
        request_id=request.request_id,
        metadata=json_format.MessageToDict(request.metadata),
    )


def turn_message(turn: models.Turn) -> turn_pb2.Turn:
    """Return a stored turn as the wire shows it."""
    message = turn_pb2.Turn(
        turn_id=turn.turn_id,
        session_id=turn.session_id,
        agent=turn.agent,
        state=_STATES[turn.state],
        attempt=turn.attempt,
        task_id=turn.task_id,
        question=turn.question,
        answer=turn.answer,
        citations=[citation_message(citation) for citation in turn.citations],
        usage=usage_message(turn.usage),
        error_reason=turn.error_reason,
        error_message=turn.error_message,
    )
    message.create_time.FromDatetime(turn.created_at)
    if turn.ended_at is not None:
        message.end_time.FromDatetime(turn.ended_at)
    return message


def event_message(entry: models.Entry) -> turn_pb2.TurnEvent:
    """Return a journal entry as the wire shows it."""
    message = turn_pb2.TurnEvent(
        turn_id=entry.turn_id, sequence=entry.sequence, attempt=entry.attempt
    )
    message.time.FromDatetime(entry.time)
    _set_event(message, entry.event)
    return message


def _set_event(message: turn_pb2.TurnEvent, event: models.TurnEvent) -> None:  # noqa: C901 - one case an event
    match event:
        case models.TextDelta(text):
            message.message_delta.text = text
        case models.ReasoningDelta(text):
            message.reasoning_delta.text = text
        case models.Started(session_id, agent):
            message.started.CopyFrom(turn_pb2.TurnStarted(session_id=session_id, agent=agent))
        case models.Recalled(passages, degraded):
            message.recall.CopyFrom(
                turn_pb2.Recall(passages=map(citation_message, passages), degraded=degraded)
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
            message.citation.CopyFrom(citation_message(citation))
        case models.Metered(usage):
            message.usage.CopyFrom(usage_message(usage))
        case models.Restarted(attempt, keep):
            message.restarted.CopyFrom(
                turn_pb2.TurnRestarted(attempt=attempt, keep_characters=keep)
            )
        case models.Completed(answer, message_id, version, usage):
            message.completed.CopyFrom(
                turn_pb2.TurnCompleted(
                    answer=answer,
                    message_id=message_id,
                    context_version=version,
                    usage=usage_message(usage),
                )
            )
        case models.Failed(reason, text, retryable):
            message.failed.CopyFrom(
                turn_pb2.TurnFailed(reason=reason, message=text, retryable=retryable)
            )
        case models.Cancelled(cancelled_by):
            message.cancelled.CopyFrom(turn_pb2.TurnCancelled(cancelled_by=cancelled_by))


def encode(entry: models.Entry) -> bytes:
    """Return the entry as the journal keeps it."""
    return event_message(entry).SerializeToString()


def decode(data: bytes) -> models.Entry:
    """Return the entry that `encode` wrote."""
    message = turn_pb2.TurnEvent.FromString(data)
    return models.Entry(
        turn_id=message.turn_id,
        sequence=message.sequence,
        attempt=message.attempt,
        time=message.time.ToDatetime(tzinfo=UTC),
        event=_event_from(message),
    )


def _event_from(message: turn_pb2.TurnEvent) -> models.TurnEvent:  # noqa: C901, PLR0911 - one case an event
    match message.WhichOneof("event"):
        case "message_delta":
            return models.TextDelta(message.message_delta.text)
        case "reasoning_delta":
            return models.ReasoningDelta(message.reasoning_delta.text)
        case "started":
            return models.Started(message.started.session_id, message.started.agent)
        case "recall":
            return models.Recalled(
                citations_from(message.recall.passages), tuple(message.recall.degraded)
            )
        case "tool_call":
            call = message.tool_call
            return models.ToolCalled(call.id, call.name, call.arguments_json)
        case "tool_result":
            result = message.tool_result
            return models.ToolAnswered(
                result.tool_call_id,
                result.name,
                result.result_json,
                result.is_error,
                result.truncated,
            )
        case "citation":
            return models.Cited(citation_from(message.citation))
        case "usage":
            return models.Metered(usage_from(message.usage))
        case "restarted":
            return models.Restarted(message.restarted.attempt, message.restarted.keep_characters)
        case "completed":
            done = message.completed
            return models.Completed(
                done.answer, done.message_id, done.context_version, usage_from(done.usage)
            )
        case "failed":
            failed = message.failed
            return models.Failed(failed.reason, failed.message, failed.retryable)
        case "cancelled":
            return models.Cancelled(message.cancelled.cancelled_by)
        case other:
            raise ValueError(f"an event of kind {other} is not known")


def citation_message(citation: models.Citation) -> message_pb2.Citation:
    """Return a citation as the wire shows it."""
    return message_pb2.Citation(
        number=citation.number,
        document_id=citation.document_id,
        document_name=citation.document_name,
        page=citation.page,
        start_offset=citation.start_offset,
        end_offset=citation.end_offset,
        quote=citation.quote,
        score=citation.score,
        chunk_id=citation.chunk_id,
        heading_path=citation.heading_path,
    )


def citation_from(message: message_pb2.Citation) -> models.Citation:
    """Return a citation of the wire."""
    return models.Citation(
        number=message.number,
        document_id=message.document_id,
        document_name=message.document_name,
        page=message.page,
        start_offset=message.start_offset,
        end_offset=message.end_offset,
        quote=message.quote,
        score=message.score,
        chunk_id=message.chunk_id,
        heading_path=tuple(message.heading_path),
    )


def citations_from(messages: Sequence[message_pb2.Citation]) -> tuple[models.Citation, ...]:
    """Return citations of the wire."""
    return tuple(citation_from(message) for message in messages)


def usage_message(usage: models.Usage) -> usage_pb2.TokenUsage:
    """Return consumption as the wire shows it."""
    return usage_pb2.TokenUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cost_micro_usd=usage.cost_micro_usd,
        estimated=usage.estimated,
    )


def usage_from(message: usage_pb2.TokenUsage) -> models.Usage:
    """Return consumption of the wire."""
    return models.Usage(
        prompt_tokens=message.prompt_tokens,
        completion_tokens=message.completion_tokens,
        cached_tokens=message.cached_tokens,
        reasoning_tokens=message.reasoning_tokens,
        cost_micro_usd=message.cost_micro_usd,
        estimated=message.estimated,
    )
