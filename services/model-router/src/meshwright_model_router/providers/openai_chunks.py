"""The chunks of a streamed chat completion: decoded, checked, merged."""

from typing import Final

import msgspec

from meshwright_common.ids import new_id
from meshwright_model_router.domain.output import (
    Ended,
    FinishReason,
    Piece,
    ReportedUsage,
    ToolCallPiece,
)
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.failures import from_event, truncated
from meshwright_model_router.providers.mended_text import decode_mended
from meshwright_model_router.providers.tool_names import ToolNames

MAX_TOOL_CALLS: Final = 16
"""Calls of one message that are passed on; a model in a fit asks for hundreds."""
DONE: Final = b"[DONE]"

_NULL: Final = msgspec.Raw(b"null")
_FINISH_REASONS: Final = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct):
    """A chunk, as far as it is read. `usage` and `error` are judged apart: providers vary."""

    model: str | None = None
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL


_decode = msgspec.json.Decoder(Chunk).decode


class _Added:
    """What the events of one read add."""

    __slots__ = ("calls", "reasonings", "texts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.reasonings: list[str] = []
        self.calls: list[ToolCallPiece] = []

    def piece(self, usage: ReportedUsage | None) -> Piece | None:
        if not (self.texts or self.reasonings or self.calls):
            return None
        return Piece("".join(self.texts), "".join(self.reasonings), tuple(self.calls), usage)


class Assembly:
    """Puts one answer together from the events of its stream.

    `done`: [DONE] came; what follows it is not looked at.
    """

    def __init__(self, endpoint: Endpoint, names: ToolNames) -> None:
        self._endpoint = endpoint
        self._names = names
        self._finish: FinishReason | None = None
        self._usage: ReportedUsage | None = None
        self._calls: dict[int, int] = {}
        """The provider's index of a call to ours."""
        self._call_ids: dict[int, str] = {}
        self.model = ""
        self.done = False

    def take(self, events: list[bytes]) -> Piece | None:
        """Return what the events add, as one piece; None: no output.

        Raises: ProviderProtocol for what is no chunk; what an error event says.
        """
        added = _Added()
        for data in events:
            if self.done:
                break
            if data == DONE:
                self.done = True
            elif data:
                try:
                    chunk = _decode(data)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    chunk = decode_mended(self._endpoint, _decode, data)
                self._take_chunk(chunk, data, added)
        return added.piece(self._usage)

    @property
    def prompt_usage(self) -> ReportedUsage | None:
        """What the provider told so far: before the answer it is what the prompt took."""
        return self._usage

    @property
    def complete(self) -> bool:
        """True when the provider said that the answer is over."""
        return self.done or self._finish is not None

    def ended(self) -> Ended:
        """Return the end of a complete answer."""
        return Ended(self._finish or FinishReason.STOP, self._usage)

    def _take_chunk(self, chunk: Chunk, data: bytes, added: _Added) -> None:
        if chunk.error is not _NULL and bytes(chunk.error) != b"null":
            raise from_event(self._endpoint, data)
        if not self.model and chunk.model:
            self.model = chunk.model
        if chunk.usage is not _NULL and bytes(chunk.usage) != b"null":
            self._usage = _usage(chunk.usage) or self._usage
        for choice in chunk.choices or ():
            if choice.index == 0:
                if choice.delta is not None:
                    self._take_delta(choice.delta, added)
                if choice.finish_reason == "error":
                    # OpenRouter's word for a model that failed under way.
                    raise truncated(self._endpoint)
                if choice.finish_reason is not None:
                    self._finish = _FINISH_REASONS.get(choice.finish_reason, FinishReason.STOP)

    def _take_delta(self, delta: _Delta, added: _Added) -> None:
        if text := delta.content or delta.refusal:
            added.texts.append(text)
        if thought := delta.reasoning_content or delta.reasoning:
            added.reasonings.append(thought)
        for call in delta.tool_calls or ():
            if (part := self._call(call)) is not None:
                added.calls.append(part)

    def _call(self, call: _ToolCall) -> ToolCallPiece | None:
        """Return the piece under our numbering; None when it belongs to a call too many."""
        theirs = call.index if call.index is not None else max(self._calls, default=0)
        function = call.function or _Function()
        ours = self._calls.get(theirs, -1)
        # Some providers give every call the index 0 and tell them apart by id alone.
        new = ours < 0 or bool(call.id and function.name and call.id != self._call_ids[ours])
        if new:
            ours = len(self._call_ids)
            self._calls[theirs] = ours
            self._call_ids[ours] = call.id or f"call_{new_id()}"
        if ours >= MAX_TOOL_CALLS:
            return None
        return ToolCallPiece(
            ours,
            self._call_ids[ours] if new else "",
            self._names.decode(function.name) if new and function.name else "",
            function.arguments or "",
        )


class _CachedDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _ReasoningDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: _CachedDetails | None = None
    completion_tokens_details: _ReasoningDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    """DeepSeek's name for cached tokens."""


_decode_usage = msgspec.json.Decoder(_Usage).decode


def _usage(raw: msgspec.Raw) -> ReportedUsage | None:
    """Return the usage; None when its counts are no whole numbers."""
    try:
        usage = _decode_usage(raw)
    except msgspec.DecodeError:
        return None
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return ReportedUsage(
        usage.prompt_tokens,
        usage.completion_tokens,
        (prompt.cached_tokens if prompt else None) or usage.prompt_cache_hit_tokens or 0,
        (completion.reasoning_tokens if completion else None) or 0,
    )
