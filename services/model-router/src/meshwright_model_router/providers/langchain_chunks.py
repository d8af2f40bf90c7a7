"""The chunks of a LangChain model's stream: checked, and made pieces."""

import json
from collections.abc import Mapping
from typing import Any, Final

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage

from meshwright_common.ids import new_id
from meshwright_model_router.domain.output import (
    Ended,
    FinishReason,
    Piece,
    ReportedUsage,
    ToolCallPiece,
)
from meshwright_model_router.providers.mended_text import mended
from meshwright_model_router.providers.openai_chunks import MAX_TOOL_CALLS
from meshwright_model_router.providers.tool_names import ToolNames

_REASON_NAMES: Final = ("finish_reason", "stop_reason", "stopReason", "done_reason")
"""What the packages for OpenAI, Anthropic, Bedrock and Ollama call it."""
_MODEL_NAMES: Final = ("model_name", "model", "model_id")
_FINISH_REASONS: Final = {
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "tool_use": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    "content_filtered": FinishReason.CONTENT_FILTER,
    "guardrail_intervened": FinishReason.CONTENT_FILTER,
    "refusal": FinishReason.CONTENT_FILTER,
    "safety": FinishReason.CONTENT_FILTER,
}


class ChunkAssembly:
    """Puts one answer together. `output_tool`: its arguments are the answer's text; "": none."""

    def __init__(self, names: ToolNames, output_tool: str = "") -> None:
        self._names = names
        self._output_tool = output_tool
        self._finish = FinishReason.STOP
        self._counts: dict[str, int] = {}
        self._calls: dict[object, int] = {}
        """The model's index or id of a call to ours; -1: the tool that carries the answer."""
        self._called = 0
        self.model = ""

    def take(self, chunk: BaseMessage) -> Piece | None:
        """Return what a chunk adds; None: no output."""
        piece = Piece()
        self._take_content(chunk, piece)
        calls: list[ToolCallPiece] = []
        if isinstance(chunk, AIMessageChunk) and chunk.tool_call_chunks:
            for one in chunk.tool_call_chunks:
                self._take_call(one, _text(one.get("args")), piece, calls)
        elif isinstance(chunk, AIMessage):
            for whole in chunk.tool_calls:
                self._take_call(whole, json.dumps(whole["args"], ensure_ascii=False), piece, calls)
            for broken in chunk.invalid_tool_calls:
                self._take_call(broken, _text(broken.get("args")), piece, calls)
        piece.tool_calls = tuple(calls)
        if isinstance(chunk, AIMessage):
            self._count(chunk.usage_metadata)
        self._take_metadata(chunk.response_metadata)
        return piece if piece.text or piece.reasoning or calls else None

    def ended(self) -> Ended:
        """Return the end of an answer whose stream ended."""
        finish = self._finish
        if finish is FinishReason.TOOL_CALLS and not self._called:
            finish = FinishReason.STOP
        of = self._counts.get
        if not self._counts:
            return Ended(finish, None)
        usage = ReportedUsage(
            of("input_tokens", 0), of("output_tokens", 0), of("cache_read", 0), of("reasoning", 0)
        )
        return Ended(finish, usage)

    def _take_content(self, chunk: BaseMessage, piece: Piece) -> None:
        if isinstance(chunk.content, str) and not chunk.additional_kwargs:
            self._add_text(chunk.content, piece)
            return
        for block in chunk.content_blocks:
            if block["type"] == "text":
                self._add_text(_text(block.get("text")), piece)
            elif block["type"] == "reasoning":
                piece.reasoning += mended(_text(block.get("reasoning")))

    def _add_text(self, text: str, piece: Piece) -> None:
        # Words around the tool that carries the answer would spoil its JSON.
        if not self._output_tool:
            piece.text += mended(text)

    def _take_call(
        self, call: Mapping[str, Any], arguments: str, piece: Piece, calls: list[ToolCallPiece]
    ) -> None:
        name, key = _text(call.get("name")), call.get("index")
        if key is None:
            key = call.get("id") or next(reversed(self._calls), 0)
        new = key not in self._calls
        if new and self._output_tool and name == self._output_tool:
            self._calls[key] = -1
        elif new:
            self._calls[key] = self._called
            self._called += 1
        number, arguments = self._calls[key], mended(arguments)
        if number < 0:
            piece.text += arguments
        elif number < MAX_TOOL_CALLS:
            identity = (call.get("id") or f"call_{new_id()}") if new else ""
            known = self._names.decode(name) if new else ""
            calls.append(ToolCallPiece(number, identity, known, arguments))

    def _count(self, usage: Mapping[str, Any] | None) -> None:
        """Add the counts of a chunk: LangChain's are what each one adds."""
        if not usage:
            return
        self._add_counts(usage, ("input_tokens", "output_tokens"))
        self._add_counts(usage.get("input_token_details"), ("cache_read",))
        self._add_counts(usage.get("output_token_details"), ("reasoning",))

    def _add_counts(self, told: object, names: tuple[str, ...]) -> None:
        if not isinstance(told, Mapping):
            return
        for name in names:
            count = told.get(name)
            if isinstance(count, int):
                self._counts[name] = self._counts.get(name, 0) + count

    def _take_metadata(self, metadata: Mapping[str, Any]) -> None:
        for name in _MODEL_NAMES:
            self.model = self.model or _text(metadata.get(name))
        for name in _REASON_NAMES:
            if reason := _text(metadata.get(name)):
                self._finish = _FINISH_REASONS.get(reason.lower(), FinishReason.STOP)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
