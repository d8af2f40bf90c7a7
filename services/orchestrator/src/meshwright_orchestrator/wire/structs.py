"""Structs of the wire as JSON, checked."""

import math
from typing import Final

import orjson
from google.protobuf import json_format, struct_pb2

from meshwright_common.errors import invalid
from meshwright_orchestrator.domain.conversation import JsonObject

EXACT_INTEGERS: Final = 2**53
"""Up to here a double holds every whole number."""
MAX_VALUES: Final = 100_000
"""Values in one struct."""


def check_struct(struct: struct_pb2.Struct, field: str) -> None:
    """Raises: InvalidArgument for a number that JSON does not have, and a value without a kind."""
    pending = list(struct.fields.values())
    seen = 0
    while pending:
        value = pending.pop()
        seen += 1
        if seen > MAX_VALUES:
            raise invalid(field, f"must hold at most {MAX_VALUES} values")
        match value.WhichOneof("kind"):
            case "number_value" if not math.isfinite(value.number_value):
                raise invalid(field, "holds a number that JSON does not have")
            case "struct_value":
                pending.extend(value.struct_value.fields.values())
            case "list_value":
                pending.extend(value.list_value.values)
            case None:
                raise invalid(field, "holds a value without a kind")
            case _:
                pass


def plain(struct: struct_pb2.Struct) -> JsonObject:
    """Return a checked struct as JSON, whole numbers as integers: a Struct has only doubles."""
    return {name: _plain(value) for name, value in struct.fields.items()}


def _plain(value: struct_pb2.Value) -> object:
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            is_whole = number.is_integer() and abs(number) <= EXACT_INTEGERS
            return int(number) if is_whole else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return plain(value.struct_value)
        case "list_value":
            return [_plain(one) for one in value.list_value.values]
        case _:
            return None


def object_from(struct: struct_pb2.Struct, field: str, max_bytes: int) -> JsonObject:
    """Return a struct as a JSON object. Raises: InvalidArgument."""
    check_struct(struct, field)
    value = plain(struct)
    size = len(orjson.dumps(value))
    if size > max_bytes:
        raise invalid(field, f"must be at most {max_bytes} bytes as JSON, has {size}")
    return value


def value_message(value: object) -> struct_pb2.Value:
    """Return a JSON value as the wire shows it."""
    message = struct_pb2.Value()
    # Any JSON value can be one, not only an object.
    json_format.ParseDict(value, message)  # type: ignore[arg-type]
    return message
