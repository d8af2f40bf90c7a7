"""Values that several messages share: texts, ids, times, JSON objects, pages, request ids."""

import hashlib
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

import orjson
from google.protobuf.message import Message as ProtoMessage
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from meshwright.types.v1 import page_pb2
from meshwright_common.errors import invalid
from meshwright_common.events.envelope import Event
from meshwright_common.ids import parse_id
from meshwright_session.domain import paging
from meshwright_session.domain.models import JsonObject, Request
from meshwright_session.domain.paging import PageRequest

MAX_REQUEST_ID_CHARACTERS: Final = 128
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9998, 1, 1, tzinfo=UTC)


def text(value: str, field: str, *, most: int, least: int = 0) -> str:
    """Return `value` when it has `least` to `most` characters, none of them U+0000."""
    if not least <= len(value) <= most:
        raise invalid(field, f"must have {least} to {most} characters")
    return storable(value, field)


def name(value: str, field: str, *, most: int) -> str:
    """Return `value` when it is 1 to `most` printable characters without blanks at its ends."""
    if not 1 <= len(value) <= most:
        raise invalid(field, f"must have 1 to {most} characters")
    if not value.isprintable() or value != value.strip():
        raise invalid(field, "must be printable, without blanks at its ends")
    return value


def storable(value: str, field: str) -> str:
    """Return `value` unless it has a character that the store cannot keep."""
    if "\0" in value:
        raise invalid(field, "must not contain the character U+0000")
    return value


def identifiers(values: Iterable[str], field: str, *, most: int) -> tuple[str, ...]:
    """Return ids in canonical form, in order. Raises: InvalidArgument for a doubled one."""
    parsed = tuple(parse_id(value, f"{field}[{index}]") for index, value in enumerate(values))
    if len(parsed) > most:
        raise invalid(field, f"must be at most {most}")
    if len(set(parsed)) != len(parsed):
        raise invalid(field, "must not name one twice")
    return parsed


def page_request(page: page_pb2.PageRequest) -> PageRequest:
    """Return the page asked for."""
    return paging.page_request(page.page_size, page.page_token)


def page_info(token: str) -> page_pb2.PageInfo:
    """Return where a list goes on."""
    return page_pb2.PageInfo(next_page_token=token)


def request_of(message: ProtoMessage, request_id: str, subject: str) -> Request | None:
    """Return what makes a mutation repeatable; None when the caller gave no request id.

    The digest is of everything in `message` but its request id.
    """
    if not request_id:
        return None
    text(request_id, "request_id", most=MAX_REQUEST_ID_CHARACTERS)
    body = type(message)()
    body.CopyFrom(message)
    body.ClearField("request_id")
    digest = hashlib.sha256(body.SerializeToString(deterministic=True)).digest()
    return Request(subject, request_id, digest)


def timestamp(moment: datetime | None) -> Timestamp | None:
    """Return the wire form; None stays None."""
    if moment is None:
        return None
    wire = Timestamp()
    wire.FromDatetime(moment)
    return wire


def moment(message: ProtoMessage, field: str) -> datetime | None:
    """Return the time in a field of `message`; None when it is absent."""
    if not message.HasField(field):
        return None
    wire: Timestamp = getattr(message, field)
    try:
        value = wire.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise invalid(field, "is no time of the calendar") from None
    if not _EARLIEST <= value <= _LATEST:
        raise invalid(field, "must be between 1970 and 9998")
    return value


def event_time(event: Event) -> datetime:
    """Return when an event happened. Raises: ValueError when its time is of no zone or no age."""
    if event.timestamp.tzinfo is None:
        raise ValueError("the timestamp has no time zone")
    if not _EARLIEST <= event.timestamp <= _LATEST:
        raise ValueError("the timestamp is not between 1970 and 9998")
    return event.timestamp


def json_object(struct: Struct, field: str, *, most_bytes: int) -> JsonObject:
    """Return a Struct as a plain object that can be stored as jsonb.

    Raises: InvalidArgument naming `field` for numbers and characters that JSON or the store does
    not have, and for more than `most_bytes` as compact JSON.
    """
    plain = _object(struct, field)
    if len(orjson.dumps(plain)) > most_bytes:
        raise invalid(field, f"must have at most {most_bytes} bytes as JSON")
    return plain


def struct(plain: JsonObject) -> Struct:
    """Return the wire form of a plain object."""
    wire = Struct()
    for key, value in plain.items():
        _set(wire.fields[key], value)
    return wire


def is_null(value: Value) -> bool:
    """Return whether a member of a Struct is null, which a message without a kind also is."""
    return value.WhichOneof("kind") in (None, "null_value")


def _object(wire: Struct, field: str) -> dict[str, object]:
    return {storable(key, field): plain_value(value, field) for key, value in wire.fields.items()}


def plain_value(value: Value, field: str) -> object:
    """Return a member of a Struct as a plain value. Raises: InvalidArgument naming `field`."""
    match value.WhichOneof("kind"):
        case "string_value":
            return storable(value.string_value, field)
        case "number_value":
            return _finite(value.number_value, field)
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return _object(value.struct_value, field)
        case "list_value":
            return [plain_value(item, field) for item in value.list_value.values]
        case _:
            return None


def _finite(number: float, field: str) -> int | float:
    if not math.isfinite(number):
        raise invalid(field, "must not contain infinite numbers")
    # 3, not 3.0: a Struct has only doubles, and readers of the JSON expect integers.
    return int(number) if number.is_integer() and abs(number) < 1 << 53 else number


def _set(wire: Value, value: object) -> None:
    if value is None:
        wire.null_value = 0  # type: ignore[assignment]
    elif isinstance(value, bool):
        wire.bool_value = value
    elif isinstance(value, int | float):
        wire.number_value = value
    elif isinstance(value, str):
        wire.string_value = value
    elif isinstance(value, Mapping):
        wire.struct_value.CopyFrom(struct(value))
    elif isinstance(value, list):
        items = ListValue()
        for item in value:
            _set(items.values.add(), item)
        wire.list_value.CopyFrom(items)
    else:
        raise TypeError(f"not a JSON value: {type(value).__name__}")
