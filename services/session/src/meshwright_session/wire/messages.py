"""Messages of a conversation: checked on their way in, kept as they came.

What is stored is a `StoredMessage` with message, citations and usage. So any message comes back
exactly, also one with fields that this version does not know.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from meshwright.session.v1 import session_history_pb2, session_pb2, session_service_pb2
from meshwright.types.v1 import message_pb2
from meshwright_common.errors import invalid
from meshwright_common.ids import parse_id
from meshwright_session.domain.message_search import MessageQuery
from meshwright_session.domain.models import (
    ContextChanges,
    MessageDraft,
    Role,
    StoredMessage,
)
from meshwright_session.domain.sessions import MAX_MESSAGES_PER_APPEND, MAX_MESSAGES_PER_TURN
from meshwright_session.domain.turns import MESSAGES_BY_DEFAULT
from meshwright_session.domain.windows import WINDOW_MESSAGES
from meshwright_session.wire import values

MAX_TEXT_BYTES: Final = 1024 * 1024
"""Of all text parts of a request together."""
MAX_SEARCHED_CHARACTERS: Final = 16 * 1024
"""A message is found by the words of its beginning: cutting more would hold up the turn."""
MAX_QUERY_CHARACTERS: Final = 400
MAX_IMAGE_BYTES: Final = 3 * 1024 * 1024
MAX_TOOL_CALLS: Final = 16
MAX_CONTEXT_BYTES: Final = 256 * 1024
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MEDIA_TYPE: Final = re.compile(r"image/[a-z0-9.+-]{1,60}")

_ROLES: Final[dict[int, Role]] = {
    message_pb2.ROLE_SYSTEM: "system",
    message_pb2.ROLE_USER: "user",
    message_pb2.ROLE_ASSISTANT: "assistant",
    message_pb2.ROLE_TOOL: "tool",
}


def appended(request: session_service_pb2.AppendMessagesRequest) -> list[MessageDraft]:
    """Return the messages of a request. Raises: InvalidArgument naming the field."""
    _check_all(request.messages, MAX_MESSAGES_PER_APPEND)
    return [draft(session_pb2.StoredMessage(message=message)) for message in request.messages]


def draft(stored: session_pb2.StoredMessage) -> MessageDraft:
    """Return a checked message as it is to be stored: with message, citations and usage alone."""
    message = stored.message
    return MessageDraft(_ROLES[message.role], stored.SerializeToString(), searched_text(message))


def searched_text(message: message_pb2.Message) -> str:
    """Return what a message is found by. What tools answered is not looked for."""
    if message.role == message_pb2.ROLE_TOOL:
        return ""
    texts = (part.text for part in message.parts if part.text)
    return "\n".join(texts)[:MAX_SEARCHED_CHARACTERS]


def query(request: session_history_pb2.SearchMessagesRequest) -> MessageQuery:
    """Return what is looked for. Raises: InvalidArgument naming the field."""
    return MessageQuery(
        values.text(request.query, "query", least=1, most=MAX_QUERY_CHARACTERS),
        parse_id(request.session_id, "session_id") if request.session_id else None,
    )


def turn_id(value: str) -> str | None:
    """Return the turn of appended messages; None when no turn wrote them."""
    return parse_id(value, "turn_id") if value else None


def of_user(message: message_pb2.Message, field: str) -> MessageDraft:
    """Return what the user of a turn says. Raises: InvalidArgument naming the field."""
    _check(message, field)
    if message.role != message_pb2.ROLE_USER:
        raise invalid(f"{field}.role", "must be user")
    _check_text([message], field)
    return draft(session_pb2.StoredMessage(message=message))


def most_messages(request: session_service_pb2.BeginTurnRequest) -> int:
    """Return how many messages a turn's agent reads. Raises: InvalidArgument."""
    most = request.max_messages or MESSAGES_BY_DEFAULT
    if not 1 <= most <= WINDOW_MESSAGES:
        raise invalid("max_messages", f"must be 1 to {WINDOW_MESSAGES}, or 0 for the default")
    return most


def of_turn(request: session_service_pb2.CommitTurnRequest) -> list[MessageDraft]:
    """Return the messages of a turn; citations and usage go with the last one, the answer.

    Raises: InvalidArgument naming the field.
    """
    _check_all(request.messages, MAX_MESSAGES_PER_TURN)
    last = len(request.messages) - 1
    if request.messages[last].role != message_pb2.ROLE_ASSISTANT:
        raise invalid(f"messages[{last}].role", "must be assistant: the last one is the answer")
    drafts = []
    for index, message in enumerate(request.messages):
        stored = session_pb2.StoredMessage(message=message)
        if index == last:
            stored.citations.extend(request.citations)
            stored.interrupted = request.interrupted
            if request.HasField("usage"):
                stored.usage.CopyFrom(request.usage)
        drafts.append(draft(stored))
    return drafts


def context_changes(request: session_service_pb2.CommitTurnRequest) -> ContextChanges:
    """Return what a turn does to the context: null removes a key, anything else is written."""
    fields = request.context_changes.fields
    removed = tuple(
        values.storable(key, "context_changes")
        for key, value in fields.items()
        if values.is_null(value)
    )
    whole = values.json_object(
        request.context_changes, "context_changes", most_bytes=MAX_CONTEXT_BYTES
    )
    gone = frozenset(removed)
    return ContextChanges({key: whole[key] for key in whole if key not in gone}, removed)


def stored_message(message: StoredMessage) -> session_pb2.StoredMessage:
    """Return a stored message as the wire shows it."""
    wire = session_pb2.StoredMessage.FromString(message.content)
    wire.message_id = message.message_id
    wire.session_id = message.session_id
    wire.sequence = message.sequence
    wire.turn_id = message.turn_id or ""
    wire.create_time.FromDatetime(message.create_time)
    return wire


def stored_messages(messages: Iterable[StoredMessage]) -> list[session_pb2.StoredMessage]:
    """Return stored messages as the wire shows them."""
    return [stored_message(message) for message in messages]


def _check_all(messages: Sequence[message_pb2.Message], most: int) -> None:
    if not 1 <= len(messages) <= most:
        raise invalid("messages", f"must be 1 to {most}")
    for index, message in enumerate(messages):
        _check(message, f"messages[{index}]")
    _check_text(messages, "messages")


def _check_text(messages: Sequence[message_pb2.Message], field: str) -> None:
    text_bytes = sum(len(part.text.encode()) for message in messages for part in message.parts)
    if text_bytes > MAX_TEXT_BYTES:
        raise invalid(field, f"must have at most {MAX_TEXT_BYTES} bytes of text")


def _check(message: message_pb2.Message, field: str) -> None:
    if message.role not in _ROLES:
        raise invalid(f"{field}.role", "must be system, user, assistant or tool")
    is_assistant = message.role == message_pb2.ROLE_ASSISTANT
    if not message.parts and not (is_assistant and message.tool_calls):
        raise invalid(f"{field}.parts", "must not be empty")
    if message.tool_calls and not is_assistant:
        raise invalid(f"{field}.tool_calls", "only an assistant calls tools")
    if len(message.tool_calls) > MAX_TOOL_CALLS:
        raise invalid(f"{field}.tool_calls", f"must be at most {MAX_TOOL_CALLS}")
    if bool(message.tool_call_id) != (message.role == message_pb2.ROLE_TOOL):
        raise invalid(f"{field}.tool_call_id", "belongs to messages of a tool, and only to them")
    if message.name and not _NAME.fullmatch(message.name):
        raise invalid(f"{field}.name", "must be 1 to 64 of letters, digits, _ and -")
    for number, call in enumerate(message.tool_calls):
        if not call.id or not call.name:
            raise invalid(f"{field}.tool_calls[{number}]", "needs an id and a name")
    for number, part in enumerate(message.parts):
        _check_part(part, f"{field}.parts[{number}]")


def _check_part(part: message_pb2.ContentPart, field: str) -> None:
    kind = part.WhichOneof("kind")
    if kind is None:
        raise invalid(field, "must be text or an image")
    if kind == "text":
        return
    image = part.image
    match image.WhichOneof("source"):
        case "url":
            if not image.url.startswith("https://"):
                raise invalid(f"{field}.image.url", "must be an https address")
        case "data":
            if not 1 <= len(image.data) <= MAX_IMAGE_BYTES:
                raise invalid(f"{field}.image.data", f"must have 1 to {MAX_IMAGE_BYTES} bytes")
            if not _MEDIA_TYPE.fullmatch(image.media_type):
                raise invalid(f"{field}.image.media_type", "must be such as image/png")
        case _:
            raise invalid(f"{field}.image", "must have a url or data")
