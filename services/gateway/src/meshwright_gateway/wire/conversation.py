"""Chat, turns, sessions and messages: JSON bodies to requests, messages to JSON bodies."""

from typing import Final

from meshwright.chat.v1 import chat_service_pb2, turn_pb2
from meshwright.session.v1 import session_history_pb2, session_pb2, session_service_pb2
from meshwright.types.v1 import message_pb2
from meshwright_gateway.errors import ShapeRefused
from meshwright_gateway.http.schemas import conversation as schemas
from meshwright_gateway.wire import values
from meshwright_gateway.wire.interrupts import turn_interrupt

_POLICIES: Final = {
    "reject": chat_service_pb2.CONCURRENCY_POLICY_REJECT,
    "queue": chat_service_pb2.CONCURRENCY_POLICY_QUEUE,
    "interrupt": chat_service_pb2.CONCURRENCY_POLICY_INTERRUPT,
    "rollback": chat_service_pb2.CONCURRENCY_POLICY_ROLLBACK,
}


def chat_request(
    body: schemas.ChatRequest, idempotency_key: str
) -> chat_service_pb2.StreamChatRequest:
    """Return the request that starts a turn."""
    request = chat_service_pb2.StreamChatRequest(
        session_id=body.session_id or "",
        message=body.message,
        agent=body.agent or "",
        model=body.model or "",
        knowledge_base_ids=body.knowledge_base_ids,
        request_id=idempotency_key,
    )
    if body.concurrency is not None:
        request.concurrency = _POLICIES[body.concurrency]
    if body.metadata:
        request.metadata.CopyFrom(values.struct_from(body.metadata))
    return request


def turn_view(turn: turn_pb2.Turn) -> schemas.Turn:
    """Return a turn as JSON shows it."""
    return schemas.Turn.model_validate(
        {
            "turn_id": turn.turn_id,
            "session_id": turn.session_id,
            "agent": turn.agent,
            "state": values.enum_name(turn_pb2.TurnState, turn.state, "TURN_STATE_"),
            "attempt": turn.attempt,
            "task_id": turn.task_id,
            "question": turn.question,
            "answer": turn.answer,
            "citations": values.citations_from(turn.citations),
            "usage": values.usage_from(turn.usage),
            "error_reason": turn.error_reason,
            "error_message": turn.error_message,
            "rating": turn.rating,
            "rating_comment": turn.rating_comment,
            "interrupts": [turn_interrupt(one) for one in turn.interrupts],
            "withdrawn": turn.withdrawn,
            "regenerated_from": turn.regenerated_from,
            "create_time": values.moment_from(turn.create_time),
            "end_time": values.time_from(turn.end_time),
        }
    )


def waiting_view(turn: turn_pb2.Turn) -> schemas.ChatWaiting:
    """Return a turn that waits for a person, in place of its answer."""
    return schemas.ChatWaiting.model_validate(
        {
            "turn_id": turn.turn_id,
            "session_id": turn.session_id,
            "agent": turn.agent,
            "interrupts": [turn_interrupt(one) for one in turn.interrupts],
        }
    )


def create_session_request(
    body: schemas.SessionCreate, idempotency_key: str
) -> session_service_pb2.CreateSessionRequest:
    """Return the request that creates a session."""
    session = session_pb2.Session(
        title=body.title, agent=body.agent, knowledge_base_ids=body.knowledge_base_ids
    )
    if body.metadata:
        session.metadata.CopyFrom(values.struct_from(body.metadata))
    return session_service_pb2.CreateSessionRequest(session=session, request_id=idempotency_key)


def update_session_request(
    session_id: str, body: schemas.SessionUpdate
) -> session_service_pb2.UpdateSessionRequest:
    """Return the request that changes what `body` names, also to nothing. Raises: ShapeRefused."""
    given = body.model_dump(exclude_none=True, exclude={"etag"})
    if not given:
        raise ShapeRefused("name what to change: title, agent, knowledge_base_ids or metadata")
    session = session_pb2.Session(
        session_id=session_id,
        title=body.title or "",
        agent=body.agent or "",
        knowledge_base_ids=body.knowledge_base_ids or (),
        etag=body.etag or "",
    )
    if body.metadata:
        session.metadata.CopyFrom(values.struct_from(body.metadata))
    request = session_service_pb2.UpdateSessionRequest(session=session)
    request.update_mask.paths.extend(given)
    return request


def branch_session_request(
    session_id: str, body: schemas.SessionBranch, idempotency_key: str
) -> session_history_pb2.BranchSessionRequest:
    """Return the request that branches a session."""
    return session_history_pb2.BranchSessionRequest(
        session_id=session_id,
        sequence=body.sequence,
        title=body.title,
        request_id=idempotency_key,
    )


def session_view(session: session_pb2.Session) -> schemas.Session:
    """Return a session as JSON shows it."""
    return schemas.Session(
        session_id=session.session_id,
        user_id=session.user_id,
        title=session.title,
        agent=session.agent,
        knowledge_base_ids=list(session.knowledge_base_ids),
        metadata=values.object_from(session.metadata),
        message_count=session.message_count,
        context_version=session.context_version,
        etag=session.etag,
        archived=session.archived,
        parent_session_id=session.parent_session_id,
        branch_sequence=session.branch_sequence,
        create_time=values.moment_from(session.create_time),
        update_time=values.moment_from(session.update_time),
    )


def message_view(stored: session_pb2.StoredMessage) -> schemas.StoredMessage:
    """Return a stored message as JSON shows it."""
    message = stored.message
    return schemas.StoredMessage.model_validate(
        {
            "message_id": stored.message_id,
            "session_id": stored.session_id,
            "sequence": stored.sequence,
            "turn_id": stored.turn_id,
            "role": values.enum_name(message_pb2.Role, message.role, "ROLE_"),
            "text": "".join(part.text for part in message.parts),
            "parts": [_part_view(part) for part in message.parts],
            "tool_calls": [
                schemas.ToolCallView(id=call.id, name=call.name, arguments_json=call.arguments_json)
                for call in message.tool_calls
            ],
            "tool_call_id": message.tool_call_id,
            "name": message.name,
            "citations": values.citations_from(stored.citations),
            "usage": values.usage_from(stored.usage) if stored.HasField("usage") else None,
            "interrupted": stored.interrupted,
            "create_time": values.moment_from(stored.create_time),
        }
    )


def _part_view(part: message_pb2.ContentPart) -> schemas.ContentPartView:
    if part.WhichOneof("kind") == "image":
        return schemas.ContentPartView(
            type="image", image_url=part.image.url, media_type=part.image.media_type
        )
    return schemas.ContentPartView(type="text", text=part.text)
