"""The conversation as agents see it: messages, tool calls, tools on offer."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

JsonObject: TypeAlias = Mapping[str, object]

MAX_CALLS_OF_MESSAGE: Final = 16
"""Tool calls of one message, as types/v1/message.proto limits them."""


class Role(StrEnum):
    """Author of a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of text."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image, by https address or by its bytes."""

    url: str = ""
    data: bytes = b""
    media_type: str = ""


Part: TypeAlias = Text | Image


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to call a tool. `arguments_json` is what it wrote: maybe not JSON."""

    id: str
    name: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `tool_call_id` says which call a TOOL message answers."""

    role: Role
    parts: tuple[Part, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""

    @property
    def text(self) -> str:
        """Its text parts, one per line."""
        return "\n".join(part.text for part in self.parts if isinstance(part, Text))


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """A tool that the model may call. `parameters` is the JSON Schema of its arguments."""

    name: str
    description: str
    parameters: JsonObject


class ToolUse(StrEnum):
    """How the model may use the tools on offer."""

    NONE = "none"
    AUTO = "auto"
    REQUIRED = "required"
