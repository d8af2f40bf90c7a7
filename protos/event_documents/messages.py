"""What the protos say about events: which message is the data of which type, and the comments."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from meshwright.events.v1 import options_pb2

PROTOS: Final = Path(__file__).resolve().parents[1]
BUF: Final = PROTOS.parent / "infra" / "dev" / "buf.sh"
ENVELOPE: Final = ".meshwright.events.v1.Event"

_MESSAGE, _ENUM, _FIELD, _NESTED, _NESTED_ENUM, _VALUE = 4, 5, 2, 3, 4, 2
"""Field numbers of descriptor.proto, of which the paths of comments consist."""


class ProtoError(Exception):
    """The protos cannot be read, or contradict themselves; the text says where."""


@dataclass(frozen=True, slots=True)
class Described:
    """A message, an enum or one of their members: `comment` is empty when there is none."""

    comment: str
    members: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EventKind:
    """An event type: `channel` carries it, `message` is the full name of its data's message."""

    event_type: str
    channel: str
    message: str


class Protos:
    """All messages and enums of a descriptor set, by full name with a leading dot."""

    def __init__(self, files: FileDescriptorSet) -> None:
        self.messages: dict[str, DescriptorProto] = {}
        self.enums: dict[str, EnumDescriptorProto] = {}
        self._described: dict[str, Described] = {}
        for file in files.file:
            self._read(file)

    def described(self, name: str) -> Described:
        """Return the comments of a message or an enum and of its members."""
        return self._described.get(name, Described("", {}))

    def kinds(self) -> list[EventKind]:
        """Return every event type, by channel and in the order of the protos.

        Raises: ProtoError for an event type that two messages claim.
        """
        kinds: dict[str, EventKind] = {}
        for name, message in self.messages.items():
            option = message.options.Extensions[options_pb2.event]
            for event_type in option.event_types:
                if event_type in kinds:
                    raise ProtoError(f"{event_type} is of {kinds[event_type].message} and {name}")
                kinds[event_type] = EventKind(event_type, option.channel, name)
        return sorted(kinds.values(), key=lambda kind: kind.channel)

    def _read(self, file: FileDescriptorProto) -> None:
        comments = {
            tuple(place.path): _text(place.leading_comments)
            for place in file.source_code_info.location
        }
        package = f".{file.package}"
        for index, enum in enumerate(file.enum_type):
            self._add_enum(f"{package}.{enum.name}", enum, (_ENUM, index), comments)
        for index, message in enumerate(file.message_type):
            self._add_message(f"{package}.{message.name}", message, (_MESSAGE, index), comments)

    def _add_message(
        self,
        name: str,
        message: DescriptorProto,
        path: tuple[int, ...],
        comments: Mapping[tuple[int, ...], str],
    ) -> None:
        self.messages[name] = message
        self._described[name] = Described(
            comments.get(path, ""),
            {
                field.name: comments.get((*path, _FIELD, index), "")
                for index, field in enumerate(message.field)
            },
        )
        for index, nested in enumerate(message.nested_type):
            self._add_message(f"{name}.{nested.name}", nested, (*path, _NESTED, index), comments)
        for index, enum in enumerate(message.enum_type):
            self._add_enum(f"{name}.{enum.name}", enum, (*path, _NESTED_ENUM, index), comments)

    def _add_enum(
        self,
        name: str,
        enum: EnumDescriptorProto,
        path: tuple[int, ...],
        comments: Mapping[tuple[int, ...], str],
    ) -> None:
        self.enums[name] = enum
        self._described[name] = Described(
            comments.get(path, ""),
            {
                value.name: comments.get((*path, _VALUE, index), "")
                for index, value in enumerate(enum.value)
            },
        )


def read_protos() -> Protos:
    """Return what the .proto files say now. Raises: ProtoError with what buf says."""
    buf = subprocess.run([BUF], capture_output=True, text=True, check=False)
    if buf.returncode:
        raise ProtoError(buf.stderr.strip())
    image = subprocess.run(
        [buf.stdout.strip(), "build", "-o", "-"], cwd=PROTOS, capture_output=True, check=False
    )
    if image.returncode:
        raise ProtoError(image.stderr.decode())
    return Protos(FileDescriptorSet.FromString(image.stdout))


def fields_of(message: DescriptorProto) -> Iterator[FieldDescriptorProto]:
    """Yield the fields of a message by their numbers."""
    yield from sorted(message.field, key=lambda field: field.number)


def _text(comment: str) -> str:
    return " ".join(line.strip() for line in comment.strip().splitlines())
