"""What a person is asked: orchestrator's messages, the domain's, and chat's own."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from google.protobuf import json_format, struct_pb2, timestamp_pb2

from meshwright.chat.v1 import turn_pb2
from meshwright.orchestrator.v1 import task_pb2
from meshwright.types.v1 import message_pb2
from meshwright_chat.domain.waiting import Interrupt, ProposedCall, Queued

_KINDS: Final = {
    task_pb2.INTERRUPT_KIND_QUESTION: "question",
    task_pb2.INTERRUPT_KIND_APPROVAL: "approval",
}
_KINDS_TO: Final = {kind: number for number, kind in _KINDS.items()}


def interrupt_from(message: task_pb2.TaskInterrupt | turn_pb2.Interrupt, task_id: str) -> Interrupt:
    """Return what is asked, of the task that asks it."""
    call = message.tool_call
    return Interrupt(
        interrupt_id=message.interrupt_id,
        task_id=task_id,
        kind=_KINDS.get(message.kind, ""),
        question=message.question,
        payload=_object(message.payload) if message.HasField("payload") else None,
        answer_schema=_object(message.answer_schema) if message.HasField("answer_schema") else None,
        call=(
            ProposedCall(call.id, call.name, call.arguments_json)
            if message.HasField("tool_call")
            else None
        ),
        created_at=_time(message.create_time) if message.HasField("create_time") else None,
        expires_at=_time(message.expire_time) if message.HasField("expire_time") else None,
    )


def interrupt_message(interrupt: Interrupt) -> turn_pb2.Interrupt:
    """Return what is asked as the wire shows it."""
    message = turn_pb2.Interrupt(
        interrupt_id=interrupt.interrupt_id,
        task_id=interrupt.task_id,
        question=interrupt.question,
    )
    if interrupt.kind:
        message.kind = _KINDS_TO[interrupt.kind]
    if interrupt.payload is not None:
        json_format.ParseDict(dict(interrupt.payload), message.payload)
    if interrupt.answer_schema is not None:
        json_format.ParseDict(dict(interrupt.answer_schema), message.answer_schema)
    if interrupt.call is not None:
        message.tool_call.CopyFrom(
            message_pb2.ToolCall(
                id=interrupt.call.tool_call_id,
                name=interrupt.call.name,
                arguments_json=interrupt.call.arguments_json,
            )
        )
    if interrupt.created_at is not None:
        message.create_time.FromDatetime(interrupt.created_at)
    if interrupt.expires_at is not None:
        message.expire_time.FromDatetime(interrupt.expires_at)
    return message


def queued_message(queued: Queued) -> turn_pb2.TurnQueued:
    """Return a place in a queue as the wire shows it."""
    message = turn_pb2.TurnQueued(
        session_id=queued.session_id,
        position=queued.position,
        running_turn_id=queued.running_turn_id,
    )
    message.expire_time.FromDatetime(queued.expires_at)
    return message


def queued_from(message: turn_pb2.TurnQueued) -> Queued:
    """Return a place in a queue of the wire."""
    return Queued(
        message.session_id, message.position, message.running_turn_id, _time(message.expire_time)
    )


def _object(struct: struct_pb2.Struct) -> Mapping[str, object]:
    found: Mapping[str, object] = json_format.MessageToDict(struct)
    return found


def _time(stamp: timestamp_pb2.Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)
