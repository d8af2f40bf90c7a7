"""Protobuf to domain and back, with the checks of shape."""

from collections.abc import Sequence
from typing import Final

from google.protobuf import json_format

from meshwright.chat.v1 import chat_service_pb2, turn_pb2
from meshwright.types.v1 import message_pb2, usage_pb2
from meshwright_chat.domain import models
from meshwright_chat.domain.concurrency import ConcurrencyPolicy
from meshwright_chat.wire.interrupts import interrupt_message
from meshwright_common.errors import invalid
from meshwright_common.ids import parse_id

MAX_QUESTION_BYTES: Final = 256 * 1024
MAX_METADATA_BYTES: Final = 16 * 1024
MAX_REQUEST_ID_CHARACTERS: Final = 128
MAX_COMMENT_BYTES: Final = 4 * 1024
MAX_NAME_CHARACTERS: Final = 200
MAX_KNOWLEDGE_BASES: Final = 16

_STATES: Final = {
    models.TurnState.RUNNING: turn_pb2.TURN_STATE_RUNNING,
    models.TurnState.WAITING: turn_pb2.TURN_STATE_WAITING,
    # It is at work until it is stopped in order.
    models.TurnState.STOPPING: turn_pb2.TURN_STATE_RUNNING,
    models.TurnState.QUEUED: turn_pb2.TURN_STATE_QUEUED,
    models.TurnState.COMPLETED: turn_pb2.TURN_STATE_COMPLETED,
    models.TurnState.FAILED: turn_pb2.TURN_STATE_FAILED,
    models.TurnState.CANCELLED: turn_pb2.TURN_STATE_CANCELLED,
}
_POLICIES: Final = {
    chat_service_pb2.CONCURRENCY_POLICY_UNSPECIFIED: ConcurrencyPolicy.REJECT,
    chat_service_pb2.CONCURRENCY_POLICY_REJECT: ConcurrencyPolicy.REJECT,
    chat_service_pb2.CONCURRENCY_POLICY_QUEUE: ConcurrencyPolicy.QUEUE,
    chat_service_pb2.CONCURRENCY_POLICY_INTERRUPT: ConcurrencyPolicy.INTERRUPT,
    chat_service_pb2.CONCURRENCY_POLICY_ROLLBACK: ConcurrencyPolicy.ROLLBACK,
}


def request_from(request: chat_service_pb2.StreamChatRequest) -> models.TurnRequest:
    """Return the question. Raises: InvalidArgument naming the field."""
    if not request.message.strip():
        raise invalid("message", "must not be empty")
    size = len(request.message.encode())
    if size > MAX_QUESTION_BYTES:
        raise invalid("message", f"must be at most {MAX_QUESTION_BYTES} bytes, has {size}")
    _check_request_id(request.request_id)
    for field in ("agent", "model"):
        if len(getattr(request, field)) > MAX_NAME_CHARACTERS:
            raise invalid(field, f"must be at most {MAX_NAME_CHARACTERS} characters")
    if len(request.knowledge_base_ids) > MAX_KNOWLEDGE_BASES:
        raise invalid("knowledge_base_ids", f"must be at most {MAX_KNOWLEDGE_BASES}")
    if request.metadata.ByteSize() > MAX_METADATA_BYTES:
        raise invalid("metadata", f"must be at most {MAX_METADATA_BYTES} bytes")
    return models.TurnRequest(
        session_id=parse_id(request.session_id, "session_id") if request.session_id else "",
        question=request.message,
        agent=request.agent,
        model=request.model,
        knowledge_base_ids=tuple(request.knowledge_base_ids),
        request_id=request.request_id,
        metadata=json_format.MessageToDict(request.metadata),
    )


def policy_from(request: chat_service_pb2.StreamChatRequest) -> ConcurrencyPolicy:
    """Return what to do when a turn has not ended. Raises: InvalidArgument."""
    policy = _POLICIES.get(request.concurrency)
    if policy is None:
        raise invalid("concurrency", "must be reject, queue, interrupt or rollback")
    return policy


def request_id_from(request: chat_service_pb2.RegenerateTurnRequest) -> str:
    """Return the id of a request to answer again. Raises: InvalidArgument."""
    _check_request_id(request.request_id)
    return request.request_id


def rating_from(request: chat_service_pb2.RateTurnRequest) -> tuple[int, str]:
    """Return a rating and its comment. Raises: InvalidArgument naming the field."""
    if not -1 <= request.rating <= 1:
        raise invalid("rating", "must be -1, 0 or 1")
    size = len(request.comment.encode())
    if size > MAX_COMMENT_BYTES:
        raise invalid("comment", f"must be at most {MAX_COMMENT_BYTES} bytes, has {size}")
    return request.rating, request.comment


def _check_request_id(request_id: str) -> None:
    if len(request_id) > MAX_REQUEST_ID_CHARACTERS:
        raise invalid("request_id", f"must be at most {MAX_REQUEST_ID_CHARACTERS} characters")


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
        rating=turn.rating,
        rating_comment=turn.rating_comment,
        withdrawn=turn.withdrawn,
        regenerated_from=turn.regenerates,
    )
    if turn.pause is not None and turn.state is models.TurnState.WAITING:
        message.interrupts.extend(map(interrupt_message, turn.pause.interrupts))
    message.create_time.FromDatetime(turn.created_at)
    if turn.ended_at is not None:
        message.end_time.FromDatetime(turn.ended_at)
    return message


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
