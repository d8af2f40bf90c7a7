"""What is sent to a model: messages, tools, options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

JsonValue: TypeAlias = (
    "str | int | float | bool | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
)
JsonObject: TypeAlias = Mapping[str, JsonValue]

NO_ARGUMENTS: Final[JsonObject] = {"type": "object", "properties": {}}
"""Schema of a tool that takes nothing."""


class Role(StrEnum):
    """Author of a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Image:
    """An image by `url`, or by `data` of a `media_type`."""

    url: str = ""
    data: bytes = b""
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to call a tool; `arguments_json` is what it wrote, valid or not."""

    id: str
    name: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `tool_call_id` is set on results of tools only."""

    role: Role
    parts: tuple[str | Image, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""

    @property
    def text(self) -> str:
        """The text of the message, parts joined by line feeds, images left out."""
        if len(self.parts) == 1 and isinstance(self.parts[0], str):
            return self.parts[0]
        return "\n".join(part for part in self.parts if isinstance(part, str))

    @property
    def images(self) -> int:
        """Number of images."""
        return sum(isinstance(part, Image) for part in self.parts)


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """A tool offered to the model; `parameters` is the JSON Schema of its arguments."""

    name: str
    description: str = ""
    parameters: JsonObject = field(default_factory=lambda: NO_ARGUMENTS)


class ToolChoice(StrEnum):
    """How tools may be used."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


class OutputFormat(StrEnum):
    """Form of the output."""

    TEXT = "text"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"


@dataclass(frozen=True, slots=True)
class Options:
    """Sampling and limits; None and "" leave them to the provider."""

    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    stop_sequences: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    reasoning_effort: str = ""
    parallel_tool_calls: bool | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """Everything of a generation but the model and the purpose. `messages`: oldest first."""

    messages: tuple[Message, ...]
    tools: tuple[ToolDefinition, ...] = ()
    tool_choice: ToolChoice = ToolChoice.AUTO
    tool_choice_name: str = ""
    """With REQUIRED: the one tool to call; "": any."""
    options: Options = Options()
    output_format: OutputFormat = OutputFormat.TEXT
    output_schema: JsonObject | None = None
