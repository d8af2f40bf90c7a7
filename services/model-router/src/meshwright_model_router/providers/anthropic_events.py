"""The events of a streamed message of Anthropic's: decoded, checked, merged.

message_start, then blocks (content_block_start, …_delta, …_stop), then message_delta with the
reason and the usage, then message_stop. `ping` and whatever is not known yet are passed over.
"""

from dataclasses import dataclass
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
from meshwright_model_router.providers.failures import from_event
from meshwright_model_router.providers.mended_text import decode_mended
from meshwright_model_router.providers.openai_chunks import MAX_TOOL_CALLS
from meshwright_model_router.providers.tool_names import ToolNames

_NULL: Final = msgspec.Raw(b"null")
_FINISH_REASONS: Final = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    # A turn that the provider's own tools interrupted, which are never asked for: not complete.
    "pause_turn": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.CONTENT_FILTER,
}


class _Message(msgspec.Struct):
    model: str = ""
    usage: msgspec.Raw = _NULL


class _Block(msgspec.Struct):
    type: str = ""
    id: str | None = None
    name: str | None = None
    text: str | None = None
    thinking: str | None = None
    input: msgspec.Raw = _NULL


class _Delta(msgspec.Struct):
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL


class _Details(msgspec.Struct):
    thinking_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens_details: _Details | None = None


_decode = msgspec.json.Decoder(_Event).decode
_decode_usage = msgspec.json.Decoder(_Usage).decode


@dataclass(slots=True)
class _Call:
    """A block that calls a tool. `number`: ours; -1: its arguments are the answer's text."""

    number: int
    arguments: str
    """What to pass on if no piece of arguments comes."""


class MessageAssembly:
    """Puts one answer together. `output_tool`: see `EncodedRequest`."""

    def __init__(self, endpoint: Endpoint, names: ToolNames, output_tool: str = "") -> None:
        self._endpoint = endpoint
        self._names = names
        self._output_tool = output_tool
        self._finish: FinishReason | None = None
        self._usage: dict[str, int] = {}
        self._calls: dict[int, _Call] = {}
        self._called = 0
        self.model = ""
        self.done = False

    def take(self, events: list[bytes]) -> Piece | None:
        """Return what the events add, as one piece; None: no output.

        Raises: ProviderProtocol for what is no event; what an error event says.
        """
        piece = Piece()
        calls: list[ToolCallPiece] = []
        for data in events:
            if self.done:
                break
            if data:
                self._take(decode_mended(self._endpoint, _decode, data), data, piece, calls)
        if not (piece.text or piece.reasoning or calls):
            return None
        piece.tool_calls = tuple(calls)
        piece.usage = self.prompt_usage
        return piece

    @property
    def prompt_usage(self) -> ReportedUsage | None:
        """What the provider told so far. Its first count of the output is a 1 that says nothing."""
        usage = self._reported()
        if usage is None or self._finish is not None:
            return usage
        return ReportedUsage(usage.prompt_tokens, 0, usage.cached_tokens)

    @property
    def complete(self) -> bool:
        """True when the provider said that the answer is over."""
        return self.done or self._finish is not None

    def ended(self) -> Ended:
        """Return the end of a complete answer."""
        reason = self._finish or FinishReason.STOP
        if reason is FinishReason.TOOL_CALLS and not self._called:
            reason = FinishReason.STOP  # it called the tool that carries the answer
        return Ended(reason, self._reported())

    def _take(self, event: _Event, data: bytes, piece: Piece, calls: list[ToolCallPiece]) -> None:
        if event.type == "content_block_delta" and event.delta is not None:
            self._take_delta(event.index, event.delta, piece, calls)
        elif event.type == "content_block_start" and event.content_block is not None:
            self._open_block(event.index, event.content_block, piece, calls)
        elif event.type == "content_block_stop":
            self._close_block(event.index, piece, calls)
        elif event.type == "message_start" and event.message is not None:
            self.model = event.message.model
            self._count(event.message.usage)
        elif event.type == "message_delta":
            if event.delta is not None and event.delta.stop_reason is not None:
                reason = event.delta.stop_reason
                self._finish = _FINISH_REASONS.get(reason, FinishReason.STOP)
            self._count(event.usage)
        elif event.type == "message_stop":
            self.done = True
        elif event.type == "error" or bytes(event.error) != b"null":
            raise from_event(self._endpoint, data)

    def _open_block(
        self, index: int, block: _Block, piece: Piece, calls: list[ToolCallPiece]
    ) -> None:
        if block.type != "tool_use":
            self._add_text(block.text, piece)
            piece.reasoning += block.thinking or ""
        elif self._output_tool and block.name == self._output_tool:
            self._calls[index] = _Call(-1, _whole_arguments(block))
        elif self._called < MAX_TOOL_CALLS:
            number, self._called = self._called, self._called + 1
            self._calls[index] = _Call(number, _whole_arguments(block))
            name = self._names.decode(block.name or "")
            calls.append(ToolCallPiece(number, block.id or f"call_{new_id()}", name))

    def _take_delta(
        self, index: int, delta: _Delta, piece: Piece, calls: list[ToolCallPiece]
    ) -> None:
        self._add_text(delta.text, piece)
        if delta.thinking:
            piece.reasoning += delta.thinking
        if delta.partial_json and (call := self._calls.get(index)) is not None:
            call.arguments = ""
            _add_arguments(call, delta.partial_json, piece, calls)

    def _close_block(self, index: int, piece: Piece, calls: list[ToolCallPiece]) -> None:
        call = self._calls.get(index)
        if call is not None and call.arguments:
            _add_arguments(call, call.arguments, piece, calls)
            call.arguments = ""

    def _add_text(self, text: str | None, piece: Piece) -> None:
        # Words around the tool that carries the answer would spoil its JSON.
        if text and not self._output_tool:
            piece.text += text

    def _count(self, raw: msgspec.Raw) -> None:
        """Take over the counts that are told; later ones include the earlier."""
        try:
            usage = _decode_usage(raw) if bytes(raw) != b"null" else _Usage()
        except msgspec.DecodeError:
            return
        details = usage.output_tokens_details
        told = {
            "input": usage.input_tokens,
            "output": usage.output_tokens,
            "read": usage.cache_read_input_tokens,
            "written": usage.cache_creation_input_tokens,
            "thinking": details.thinking_tokens if details else None,
        }
        self._usage |= {name: count for name, count in told.items() if count is not None}

    def _reported(self) -> ReportedUsage | None:
        if not self._usage:
            return None
        of = self._usage.get
        parts = (of("input", 0), of("read", 0), of("written", 0))
        return ReportedUsage(
            # A part below zero makes the sum worthless; 0 is replaced by our own count.
            prompt_tokens=sum(parts) if min(parts) >= 0 else 0,
            completion_tokens=of("output", 0),
            cached_tokens=parts[1],
            reasoning_tokens=of("thinking", 0),
        )


def _add_arguments(call: _Call, arguments: str, piece: Piece, calls: list[ToolCallPiece]) -> None:
    if call.number < 0:
        piece.text += arguments
    else:
        calls.append(ToolCallPiece(call.number, arguments=arguments))


def _whole_arguments(block: _Block) -> str:
    """Return the arguments that stand in a block's start: all of them, or an empty object."""
    text = bytes(block.input).decode("utf-8", "replace")
    return text if text.startswith("{") else "{}"
