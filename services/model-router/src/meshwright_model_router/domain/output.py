"""What comes back from a model: pieces, their end, and what they consumed."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from meshwright_model_router.domain.conversation import ToolCall


class CacheStatus(StrEnum):
    """Where an answer comes from; NONE: no cache was asked for."""

    NONE = ""
    MISS = "miss"
    HIT = "hit"
    SEMANTIC_HIT = "semantic_hit"
    BYPASS = "bypass"


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


@dataclass(frozen=True, slots=True)
class ReportedUsage:
    """Counts as the provider tells them: whole numbers, otherwise unchecked."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(slots=True)
class Piece:
    """Output to append; any subset is set.

    `usage`: what the provider counted up to here, when it tells that as it goes.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallPiece, ...] = ()
    usage: ReportedUsage | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """The provider accepted the request. `model`: the name it reports; "": it tells none.

    `usage`: what it counted of the prompt, when it tells that first. A 0 says nothing.
    """

    model: str = ""
    usage: ReportedUsage | None = None


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
    """A deployment accepted the request, or there is an answer, `cache_age_seconds` old."""

    model: str
    deployment: str
    cache_status: CacheStatus = CacheStatus.NONE
    cache_age_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Restarted:
    """The stream broke for `reason` and begins anew elsewhere: the pieces so far are void."""

    reason: str
    model: str
    deployment: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What a guard found, `count` times, and did: it never quotes the text.

    `side`: "input" or "output". `action`: "block", "redact" or "report".
    """

    guard: str
    category: str
    side: str
    action: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a generation; its usage is recorded."""

    finish_reason: FinishReason
    usage: TokenUsage
    tool_calls: tuple[ToolCall, ...] = ()
    findings: tuple[Finding, ...] = ()


GenerationOutput: TypeAlias = Started | Piece | Restarted | Finished
"""A generation yields Started once, then pieces, then Finished once; Restarted voids pieces."""
