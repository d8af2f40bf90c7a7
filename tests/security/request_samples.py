"""Requests made from descriptors: every id filled in, and whatever else a good request needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from google.protobuf import message_factory, struct_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from meshwright_common.ids import new_id

MAX_DEPTH: Final = 4
OWN_CHOICE: Final = frozenset(
    {"request_id", "correlation_id", "batch_id", "tool_call_id", "chunk_id", "client_id"}
)
"""Ids that a caller makes up, or that refer to nothing stored."""


class NoRow(AssertionError):
    """A request has an id of which the matrix knows no thing: give it a row."""


def requests(
    path: str, input_type: Descriptor, ids: Mapping[str, str], samples: Mapping[str, object]
) -> Iterator[Message]:
    """Yield good requests: one, or one for each way to fill a oneof of the request itself.

    `ids` has an id by the name of the field; `samples` has values by field name, by
    `Message.field`, or by `path field` where a method wants another one: the narrowest counts.
    Raises: NoRow.
    """
    choices = [
        [field for field in oneof.fields if field.name not in _excluded(path, samples)]
        for oneof in input_type.oneofs
        if not _is_optional(oneof.fields)
    ]
    if not choices:
        yield _filled(path, input_type, ids, samples, frozenset())
        return
    for chosen in choices[0]:
        others = frozenset(field.full_name for field in choices[0] if field is not chosen)
        yield _filled(path, input_type, ids, samples, others)


def _excluded(path: str, samples: Mapping[str, object]) -> frozenset[str]:
    left_out = samples.get(f"{path} without", ())
    assert isinstance(left_out, tuple)
    return frozenset(left_out)


def _is_optional(fields: Sequence[FieldDescriptor]) -> bool:
    # How `optional` is written in descriptors.
    return len(fields) == 1 and _oneof_of(fields[0]) == f"_{fields[0].name}"


def _oneof_of(field: FieldDescriptor) -> str:
    return "" if field.containing_oneof is None else field.containing_oneof.name


def _message_of(field: FieldDescriptor) -> Descriptor:
    """Return the type of a field that holds a message."""
    assert field.message_type is not None
    return field.message_type


def _holder_of(field: FieldDescriptor) -> Descriptor:
    assert field.containing_type is not None
    return field.containing_type


def _filled(
    path: str,
    kind: Descriptor,
    ids: Mapping[str, str],
    samples: Mapping[str, object],
    left_out: frozenset[str],
    depth: int = 0,
) -> Message:
    message = message_factory.GetMessageClass(kind)()
    taken: set[str] = set()
    for field in kind.fields:
        if field.full_name in left_out or field.name in _excluded(path, samples):
            continue
        oneof = field.containing_oneof
        if oneof is not None and oneof.full_name in taken:
            continue
        value = _value(path, field, ids, samples, depth)
        if value is None:
            continue
        if oneof is not None:
            taken.add(oneof.full_name)
        _set(message, field, value)
    return message


def _value(
    path: str,
    field: FieldDescriptor,
    ids: Mapping[str, str],
    samples: Mapping[str, object],
    depth: int,
) -> object:
    for name in (f"{path} {field.name}", f"{_holder_of(field).name}.{field.name}", field.name):
        if name in samples:
            sample = samples[name]
            return sample() if callable(sample) else sample
    if field.type == FieldDescriptor.TYPE_STRING:
        return _identifier(path, field, ids)
    if field.type == FieldDescriptor.TYPE_MESSAGE and depth < MAX_DEPTH:
        if _message_of(field).full_name.startswith("google.protobuf."):
            return None
        inner = _filled(path, _message_of(field), ids, samples, frozenset(), depth + 1)
        # Without an id or a sample in it there is nothing to try.
        return inner if inner.ByteSize() else None
    return None


def _identifier(path: str, field: FieldDescriptor, ids: Mapping[str, str]) -> str | None:
    name = field.name
    if name == "values":
        # A list of ids in a message of its own: it is named after them.
        name = _snake(_holder_of(field).name)
    for known in (f"{path} {field.name}", name, name.removesuffix("s")):
        if known in ids:
            return ids[known]
    if name == "request_id":
        return new_id()
    if name in OWN_CHOICE or not name.endswith(("_id", "_ids")):
        return None
    raise NoRow(f"{path}: no thing is known for the field {field.full_name}")


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]


def _set(message: Any, field: FieldDescriptor, value: object) -> None:
    if field.is_repeated:
        values = value if isinstance(value, list) else [value]
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for one in values:
                getattr(message, field.name).add().CopyFrom(one)
        else:
            getattr(message, field.name).extend(values)
    elif field.type != FieldDescriptor.TYPE_MESSAGE:
        setattr(message, field.name, value)
    elif isinstance(value, dict):
        assert isinstance(getattr(message, field.name), struct_pb2.Struct)
        getattr(message, field.name).update(value)
    else:
        getattr(message, field.name).CopyFrom(value)
