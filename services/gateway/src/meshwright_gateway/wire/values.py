"""Small values: protobuf to what JSON shows, and back."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from google.protobuf import struct_pb2, timestamp_pb2

from meshwright.types.v1 import message_pb2, page_pb2, principal_pb2, usage_pb2
from meshwright_common.context import Principal
from meshwright_gateway.http.json_body import Json
from meshwright_gateway.http.schemas.common import Citation, Usage


class _Names(Protocol):
    def Name(self, number: Any) -> str: ...


_EXACT_INTEGERS: Final = 2**53
"""Doubles beyond it stand for several integers."""


def principal_from(message: principal_pb2.Principal) -> Principal:
    """Return a principal that the directory named."""
    service = message.kind == principal_pb2.PRINCIPAL_KIND_SERVICE
    return Principal(
        message.tenant_id,
        message.subject,
        "service" if service else "user",
        frozenset(message.permissions),
        tuple(message.roles),
    )


def object_from(struct: struct_pb2.Struct) -> dict[str, Json]:
    """Return a struct as a JSON object. Whole numbers are integers: protobuf has only doubles."""
    return {name: _json_from(value) for name, value in struct.fields.items()}


def _json_from(value: struct_pb2.Value) -> Json:
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            whole = number.is_integer() and abs(number) <= _EXACT_INTEGERS
            return int(number) if whole else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return object_from(value.struct_value)
        case "list_value":
            return [_json_from(item) for item in value.list_value.values]
        case _:
            return None


def struct_from(content: Mapping[str, object]) -> struct_pb2.Struct:
    """Return a JSON object as a struct."""
    struct = struct_pb2.Struct()
    # The type stubs know fewer values than the method takes.
    struct.update(dict(content))  # type: ignore[arg-type]
    return struct


def time_from(message: timestamp_pb2.Timestamp) -> datetime | None:
    """Return a moment; None when the field is absent, which reads as the year 1970."""
    if not message.seconds and not message.nanos:
        return None
    return message.ToDatetime(tzinfo=UTC)


def moment_from(message: timestamp_pb2.Timestamp) -> datetime:
    """Return a moment that is always there."""
    return message.ToDatetime(tzinfo=UTC)


def timestamp_of(moment: datetime | None) -> timestamp_pb2.Timestamp | None:
    """Return the message of a moment with a zone."""
    if moment is None:
        return None
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(moment.astimezone(UTC))
    return message


def enum_name(kind: _Names, number: int, prefix: str) -> str:
    """Return an enum value as JSON shows it: TURN_STATE_RUNNING is "running".

    A value that is newer than this gateway is "unspecified".
    """
    try:
        return kind.Name(number).removeprefix(prefix).lower()
    except ValueError:
        return "unspecified"


def page_request(page_size: int | None, page_token: str) -> page_pb2.PageRequest:
    """Return which part of a list is wanted."""
    return page_pb2.PageRequest(page_size=page_size or 0, page_token=page_token)


def usage_from(message: usage_pb2.TokenUsage) -> Usage:
    """Return what was consumed."""
    return Usage(
        prompt_tokens=message.prompt_tokens,
        completion_tokens=message.completion_tokens,
        cached_tokens=message.cached_tokens,
        reasoning_tokens=message.reasoning_tokens,
        cost_micro_usd=message.cost_micro_usd,
        estimated=message.estimated,
    )


def citation_from(message: message_pb2.Citation) -> Citation:
    """Return where a statement comes from."""
    return Citation(
        number=message.number,
        document_id=message.document_id,
        document_name=message.document_name,
        page=message.page or None,
        start_offset=message.start_offset,
        end_offset=message.end_offset,
        quote=message.quote,
        score=message.score,
        chunk_id=message.chunk_id,
        heading_path=tuple(message.heading_path),
    )


def citations_from(messages: Iterable[message_pb2.Citation]) -> tuple[Citation, ...]:
    """Return where statements come from."""
    return tuple(citation_from(message) for message in messages)
