"""JSON Schemas of whole event bodies: the proto3 JSON form with the names of the protos.

They describe what this version sends and allow what a later minor version may add: fields that
are not named here. A consumer that checks with them goes on working.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from meshwright_common.events.envelope import MAX_KEY_LENGTH
from meshwright_common.events.topics import TOPICS
from protos.event_documents.messages import ENVELOPE, EventKind, ProtoError, Protos, fields_of

Schema: TypeAlias = dict[str, Any]

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"

_Type = FieldDescriptorProto
_INTEGER_32: Final[Schema] = {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}
_NATURAL_32: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
# As strings, which is how proto3 JSON keeps them exact for readers whose numbers are doubles.
_INTEGER_64: Final[Schema] = {"type": "string", "pattern": r"^-?[0-9]{1,19}$"}
_NATURAL_64: Final[Schema] = {"type": "string", "pattern": r"^[0-9]{1,20}$"}
_NUMBER: Final[Schema] = {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
_SCALARS: Final[dict[int, Schema]] = {
    _Type.TYPE_BOOL: {"type": "boolean"},
    _Type.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    _Type.TYPE_DOUBLE: _NUMBER,
    _Type.TYPE_FLOAT: _NUMBER,
    _Type.TYPE_STRING: {"type": "string"},
    **dict.fromkeys((_Type.TYPE_INT32, _Type.TYPE_SINT32, _Type.TYPE_SFIXED32), _INTEGER_32),
    **dict.fromkeys((_Type.TYPE_UINT32, _Type.TYPE_FIXED32), _NATURAL_32),
    **dict.fromkeys((_Type.TYPE_INT64, _Type.TYPE_SINT64, _Type.TYPE_SFIXED64), _INTEGER_64),
    **dict.fromkeys((_Type.TYPE_UINT64, _Type.TYPE_FIXED64), _NATURAL_64),
}
_WELL_KNOWN: Final[dict[str, Schema]] = {
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time", "pattern": "Z$"},
    ".google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?s$"},
    ".google.protobuf.Struct": {"type": "object"},
    ".google.protobuf.ListValue": {"type": "array"},
    ".google.protobuf.Value": {},
}
_ENVELOPE_FACTS: Final[dict[str, Schema]] = {
    "event_id": {"format": "uuid"},
    "event_type": {"minLength": 1},
    "event_version": {"pattern": r"^[0-9]+\.[0-9]+$"},
    "source": {"minLength": 1},
}
"""What the envelope's encoder promises beyond the proto's types."""
_METADATA_FACTS: Final[dict[str, Schema]] = {
    "schema_version": {"pattern": r"^1\.[0-9]+$"},
    "partition_key": {"minLength": 1, "maxLength": MAX_KEY_LENGTH},
    "retry_count": {"minimum": 0},
}


def body_schema(protos: Protos, kind: EventKind) -> Schema:
    """Return the schema of the body of one event type.

    On a topic that is an envelope. What goes to an exchange, which keeps nothing, is the bare
    message.
    """
    head = {
        "$schema": DRAFT,
        "$id": f"urn:meshwright:event:{kind.event_type}:1",
        "title": kind.event_type,
    }
    if kind.channel not in set(TOPICS):
        return head | message_schema(protos, kind.message)
    envelope = message_schema(protos, ENVELOPE)
    properties = envelope["properties"]
    _add(properties, _ENVELOPE_FACTS)
    properties["event_type"]["const"] = kind.event_type
    _add(properties["metadata"]["properties"], _METADATA_FACTS)
    properties["metadata"]["required"] = list(properties["metadata"]["properties"])
    # A field that is absent has the zero of its type, as everywhere in proto3: none is required.
    properties["data"] = message_schema(protos, kind.message)
    return head | {
        "description": envelope["description"],
        "type": "object",
        "required": list(properties),
        "properties": properties,
    }


def message_schema(protos: Protos, name: str, *, inside: tuple[str, ...] = ()) -> Schema:
    """Return the schema of a message's JSON form. Raises: ProtoError when it contains itself."""
    if name in _WELL_KNOWN:
        return dict(_WELL_KNOWN[name])
    if name in inside:
        raise ProtoError(f"{name} contains itself: an event's data has a depth")
    described = protos.described(name)
    properties = {
        field.name: _described(
            _field_schema(protos, field, (*inside, name)), described.members[field.name]
        )
        for field in fields_of(protos.messages[name])
    }
    return _described({"type": "object", "properties": properties}, described.comment)


def _field_schema(protos: Protos, field: FieldDescriptorProto, inside: tuple[str, ...]) -> Schema:
    if field.label != _Type.LABEL_REPEATED:
        return _value_schema(protos, field, inside)
    entry = protos.messages.get(field.type_name)
    if entry is not None and entry.options.map_entry:
        value = next(one for one in entry.field if one.name == "value")
        return {"type": "object", "additionalProperties": _value_schema(protos, value, inside)}
    return {"type": "array", "items": _value_schema(protos, field, inside)}


def _value_schema(protos: Protos, field: FieldDescriptorProto, inside: tuple[str, ...]) -> Schema:
    if field.type == _Type.TYPE_MESSAGE:
        return message_schema(protos, field.type_name, inside=inside)
    if field.type == _Type.TYPE_ENUM:
        return {"type": "string", "enum": [one.name for one in protos.enums[field.type_name].value]}
    return dict(_SCALARS[field.type])


def _described(schema: Schema, comment: str) -> Schema:
    return {"description": comment, **schema} if comment else schema


def _add(properties: dict[str, Schema], facts: dict[str, Schema]) -> None:
    for name, fact in facts.items():
        properties[name] |= fact
