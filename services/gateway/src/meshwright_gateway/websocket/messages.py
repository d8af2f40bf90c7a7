"""The messages of a socket: what clients send, as models; what they get, as bytes."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal, get_args

import orjson
from pydantic import Field, model_validator

from meshwright.chat.v1 import turn_pb2
from meshwright.orchestrator.v1 import task_pb2
from meshwright.session.v1 import notification_pb2
from meshwright_common.errors import ServiceError
from meshwright_gateway.errors import misshapen
from meshwright_gateway.http import event_data
from meshwright_gateway.http.exchange import Exchange
from meshwright_gateway.http.json_body import Json, parse_json_object
from meshwright_gateway.http.problems import Problem
from meshwright_gateway.http.schemas.common import Identifier, Input
from meshwright_gateway.http.schemas.interrupts import TaskAnswer
from meshwright_gateway.http.validation import validated
from meshwright_gateway.wire.notifications import notification_view

MessageType = Literal[
    "chat", "task", "resume", "answer", "cancel", "notifications", "leave", "ack", "ping"
]
MOST_ID_CHARACTERS: Final = 64
ConversationId = Annotated[
    str, Field(min_length=1, max_length=MOST_ID_CHARACTERS, pattern=r"^[\x21-\x7e]+$")
]
Key = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]

_STREAMS: Final = frozenset({"chat", "task", "resume", "notifications"})
_KEYED: Final = frozenset({"chat", "task", "answer"})
_OF_REQUESTS: Final = ("stream", "on_disconnect")
"""Fields of the same requests by HTTP that say how they are answered."""


class Envelope(Input):
    """What messages have in common."""

    type: MessageType
    id: ConversationId = ""
    window: int | None = Field(
        default=None, ge=1, le=1000, description="Events that may be sent and not acknowledged."
    )
    idempotency_key: Key | None = None


class _Subject(Input):
    turn_id: Identifier | None = None
    task_id: Identifier | None = None

    @model_validator(mode="after")
    def _names_one(self) -> "_Subject":
        if (self.turn_id is None) == (self.task_id is None):
            raise ValueError("name either turn_id or task_id")
        return self


class Resume(_Subject):
    """Follow a turn or a task after an event."""

    after: int = Field(default=0, ge=0, lt=1 << 62)


class Cancel(_Subject):
    """Stop a turn or a task."""


class Answer(TaskAnswer):
    """Answer what a task asks."""

    task_id: Identifier


class Notifications(Input):
    """Follow what the caller is told."""

    after_id: Identifier | None = None


class Ack(Input):
    """Say which events have arrived."""

    sequence: int = Field(ge=0, lt=1 << 62)


class Empty(Input):
    """Nothing beside type and id."""


def read(message: bytes) -> tuple[dict[str, Json], str | None]:
    """Return the object of a message and its id, if that can be told.

    Raises: as `parse_json_object`.
    """
    content = parse_json_object(message)
    given = content.get("id")
    is_told = isinstance(given, str) and 0 < len(given) <= MOST_ID_CHARACTERS
    return content, str(given) if is_told else None


def split(content: Mapping[str, Json]) -> tuple[Envelope, dict[str, Json]]:
    """Return what messages have in common, and the rest. Raises: ShapeRefused naming the field."""
    kind = content.get("type")
    names = {"type", "id"}
    if not isinstance(kind, str) or kind not in get_args(MessageType):
        raise misshapen("type", f"must be one of: {', '.join(get_args(MessageType))}")
    if "id" not in content and kind != "ping":
        raise misshapen("id", "is required: answers bear it")
    if kind in _STREAMS:
        names.add("window")
    if kind in _KEYED:
        names.add("idempotency_key")
    envelope = validated(Envelope, {name: content[name] for name in names if name in content})
    rest = {name: value for name, value in content.items() if name not in names}
    for name in _OF_REQUESTS:
        if name in rest:
            raise misshapen(name, "is not a field of this message")
    return envelope, rest


def turn_message(conversation_id: str, event: turn_pb2.TurnEvent) -> bytes:
    """Return an event of a turn."""
    name, data = event_data.of_turn(event)
    return _event(conversation_id, name, event.sequence, data)


def task_messages(conversation_id: str, event: task_pb2.TaskEvent) -> Iterator[bytes]:
    """Yield an event of a task: text and reasoning that came as one are two."""
    if event.HasField("chunk") and event.chunk.text and event.chunk.reasoning:
        # Without a sequence, so that a reader never goes on in the middle.
        data: dict[str, object] = {"text": event.chunk.reasoning}
        yield _event(conversation_id, "reasoning.delta", None, data)
    name, data = event_data.of_task(event)
    yield _event(conversation_id, name, event.sequence, data)


def notification_message(
    conversation_id: str, notification: notification_pb2.Notification
) -> bytes:
    """Return a notification."""
    data = notification_view(notification).model_dump(mode="json")
    return _event(conversation_id, "notification", None, data)


def error_message(conversation_id: str | None, error: ServiceError, exchange: Exchange) -> bytes:
    """Return an error; without an id it is about a message and ends nothing."""
    problem = Problem.of(error, exchange.request_id).native(exchange.path)
    return orjson.dumps({"type": "error", "id": conversation_id, "problem": problem})


def end_message(conversation_id: str, data: Mapping[str, object] | None = None) -> bytes:
    """Return the end of a conversation, with what it came to if it was one request."""
    end: dict[str, object] = {"type": "end", "id": conversation_id}
    return orjson.dumps(end if data is None else end | {"data": data})


def pong_message(conversation_id: str | None) -> bytes:
    """Return the answer to a ping."""
    return orjson.dumps({"type": "pong"} | ({"id": conversation_id} if conversation_id else {}))


def _event(
    conversation_id: str, name: str, sequence: int | None, data: Mapping[str, object]
) -> bytes:
    return orjson.dumps(
        {"type": "event", "id": conversation_id, "event": name, "sequence": sequence, "data": data}
    )
