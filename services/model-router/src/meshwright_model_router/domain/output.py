"""What comes back from a model: pieces, their end, and what they consumed."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from meshwright_model_router.domain.conversation import ToolCall


class FinishReason(StrEnum):
    """Why a model stopped."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


@dataclass(slots=True)
class ToolCallPiece:
    """A piece of the call number `index`; `id` and `name` are set in its first piece."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class Piece:
    """Output to append; any subset is set."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallPiece, ...] = ()


@dataclass(frozen=True, slots=True)
class ReportedUsage:
    """Counts as the provider tells them: whole numbers, otherwise unchecked."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Opened:
    """The provider accepted the request. `model`: the name it reports; "": it tells none."""

    model: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """The provider's own end of the output. `usage`: None when it told none."""

    finish_reason: FinishReason
    usage: ReportedUsage | None = None


ProviderOutput: TypeAlias = Opened | Piece | Ended
"""A provider yields Opened once, then pieces, then Ended once."""


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """What a call consumed; checked. `estimated`: counted by us, not by the provider."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_micro_usd: int = 0
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """A deployment accepted the request."""

    model: str
    deployment: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a generation; its usage is recorded."""

    finish_reason: FinishReason
    usage: TokenUsage
    tool_calls: tuple[ToolCall, ...] = ()


GenerationOutput: TypeAlias = Started | Piece | Finished
"""A generation yields Started once, then pieces, then Finished once."""
