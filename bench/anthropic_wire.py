"""The bytes of Anthropic's Messages API: requests as far as they are read, events, errors."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import msgspec

from bench import directives
from bench.answers import Answer, words_of
from bench.anthropic_blocks import (
    block_delta,
    block_start,
    block_stop,
    named_event,
    text_block,
    thinking_block,
    tool_block,
)
from bench.directives import DirectiveError, ReplyPlan
from bench.openai_wire import Chunks, ToolCall, stamp, token

_ROLES = frozenset({"user", "assistant"})
_MIN_BUDGET = 1024
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


class Block(msgspec.Struct):
    """A block of a message."""

    type: str
    text: str = ""


class Message(msgspec.Struct):
    """A message, as far as the simulator reads it."""

    role: str
    content: str | list[Block]

    def plain_text(self) -> str:
        """Return the text of the message, blocks joined by blanks."""
        if isinstance(self.content, str):
            return self.content
        return " ".join(block.text for block in self.content if block.type == "text")

    def has_results(self) -> bool:
        """Return whether it brings results of tools."""
        return any(isinstance(one, Block) and one.type == "tool_result" for one in self.content)


class Thinking(msgspec.Struct):
    """How the model shall think."""

    type: str
    budget_tokens: int | None = None


class MessageRequest(msgspec.Struct):
    """A request of POST /v1/messages; what the API insists on is insisted on."""

    model: str
    max_tokens: int
    messages: list[Message]
    stream: bool | None = None
    thinking: Thinking | None = None

    def check(self) -> None:
        """Raise DirectiveError for what the API refuses."""
        for index, message in enumerate(self.messages):
            if message.role not in _ROLES:
                raise DirectiveError(f"messages.{index}.role: Input should be user or assistant")
            if isinstance(message.content, list) and any(
                block.type == "text" and not block.text.strip() for block in message.content
            ):
                raise DirectiveError("messages: text content blocks must contain non-whitespace")
        budget = self.thinking.budget_tokens if self.thinking else None
        if budget is not None and not _MIN_BUDGET <= budget < self.max_tokens:
            raise DirectiveError("thinking.budget_tokens: must be 1024 or more, below max_tokens")


class MessageChunks(Chunks):
    """Builds the data of one streamed message's events."""

    def content(self, text: str) -> bytes:
        """Return the data of a piece of text."""
        return block_delta(0, {"type": "text_delta", "text": text})

    def token_event(self) -> tuple[bytes, bytes]:
        """Return what stands before and after a time-stamped token in its event."""
        whole = named_event("content_block_delta", self.content("\0"))
        before, after = whole.split(b"\\u0000")
        return before, after


@dataclass(frozen=True, slots=True)
class MessageAnswer(Answer):
    """One answer as a message of Anthropic's; `pieces` hold whole blocks."""

    prompt_tokens: int = 0
    cached_tokens: int = 0

    def opening(self) -> bytes:
        """Return the events before the first piece."""
        message: dict[str, object] = {
            "id": self.chunks.completion_id,
            "type": "message",
            "role": "assistant",
            "model": self.chunks.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self._counts(1),
        }
        data = {"type": "message_start", "message": message}
        opened = named_event("message_start", msgspec.json.encode(data))
        if not self.pieces:
            opened += block_start(0, {"type": "text", "text": ""})
        return opened + named_event("ping", b'{"type":"ping"}')

    def closing(self, *, done: bool = True) -> bytes:
        """Return the events after the last piece."""
        data: dict[str, object] = {
            "type": "message_delta",
            "delta": {
                "stop_reason": _STOP_REASONS.get(self.finish_reason, self.finish_reason),
                "stop_sequence": None,
            },
            "usage": self._counts(self.tokens),
        }
        if self.usage is None:
            data["usage"] = {"output_tokens": 0}
        elif self.lies:
            data["usage"] = msgspec.Raw(self.usage)
        closed = b"" if self.pieces else block_stop(0)
        closed += named_event("message_delta", msgspec.json.encode(data))
        return closed + named_event("message_stop", b'{"type":"message_stop"}') if done else closed

    @property
    def lies(self) -> bool:
        """True when the plan wants other counts than the true ones."""
        return self.usage is not None and self.usage != b"true"

    def fault(self) -> bytes:
        """Return an error as an event within the stream."""
        return named_event("error", error(500, "simulated fault"))

    def body(self) -> bytes:
        """Return the answer as one body, tokens stamped now."""
        blocks: list[dict[str, object]] = [
            {"type": "tool_use", "id": call.call_id, "name": call.name, "input": _object(call)}
            for call in self.calls
        ]
        text = self.text or (token(stamp()) * self.tokens).decode()
        return msgspec.json.encode(
            {
                "id": self.chunks.completion_id,
                "type": "message",
                "role": "assistant",
                "model": self.chunks.model,
                "content": blocks or [{"type": "text", "text": text}],
                "stop_reason": _STOP_REASONS.get(self.finish_reason, self.finish_reason),
                "stop_sequence": None,
                "usage": self._counts(self.tokens),
            }
        )

    def _counts(self, output_tokens: int) -> dict[str, int]:
        if self.usage is None:
            return {"input_tokens": 0, "output_tokens": 0}
        return {
            "input_tokens": self.prompt_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": self.cached_tokens,
            "output_tokens": output_tokens,
        }


def directive_of(request: MessageRequest) -> str:
    """Return the directive of the last words of the user, else the model's name."""
    for message in reversed(request.messages):
        if message.role == "user" and not message.has_results():
            return directives.find(message.plain_text()) or request.model
    return request.model


def answer_to(
    request: MessageRequest, plan: ReplyPlan, *, number: int, created: int
) -> MessageAnswer:
    """Return the answer of a plan; `number` makes its ids unique."""
    request.check()
    chunks = MessageChunks(
        model=request.model, completion_id=f"msg_sim{number}", created=created, include_usage=False
    )
    calls: tuple[ToolCall, ...] = ()
    tokens, reason = plan.tokens, plan.stop or "stop"
    blocks: list[Callable[[int], list[bytes]]] = []
    if plan.thinking:
        blocks.append(partial(thinking_block, thoughts=plan.thinking))
    if plan.tool and (plan.endless_tools or not _tools_answered(request)):
        calls = tuple(
            ToolCall(f"toolu_sim{number}_{index}", plan.tool, plan.arguments)
            for index in range(plan.calls)
        )
        blocks += [partial(tool_block, call=call) for call in calls]
        reason = plan.stop or "tool_calls"
    elif plan.text or blocks:
        said = words_of(plan.text) if plan.text else [token(stamp()).decode()] * plan.tokens
        blocks.append(partial(text_block, words=said))
    elif request.max_tokens < tokens:
        tokens, reason = request.max_tokens, "length"
    pieces = tuple(piece for at, block in enumerate(blocks) for piece in block(at))
    if pieces:
        tokens = sum(b"_delta" in piece for piece in pieces)
    prompt = sum(max(1, len(message.plain_text()) // 4) for message in request.messages)
    return MessageAnswer(
        chunks=chunks,
        pieces=pieces,
        text=plan.text,
        calls=calls,
        tokens=tokens,
        finish_reason=reason,
        usage=_told(plan.usage),
        usage_in_stream=True,
        prompt_tokens=prompt,
        cached_tokens=plan.cached,
    )


_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def error(status: int, message: str) -> bytes:
    """Return the API's error body for an HTTP status."""
    kind = _ERROR_TYPES.get(status, "api_error")
    return msgspec.json.encode(
        {
            "type": "error",
            "error": {"type": kind, "message": message},
            "request_id": "req_simulated",
        }
    )


def _told(kind: str) -> bytes | None:
    """Return the usage to tell at the end: None none, `true` the true one, else a lie."""
    lies: dict[str, int | str] = {"negative": -5, "absurd": 10**15, "text": "many"}
    if kind == "missing":
        return None
    if kind not in lies:
        return b"true"
    return msgspec.json.encode({"output_tokens": lies[kind]})


def _tools_answered(request: MessageRequest) -> bool:
    for message in reversed(request.messages):
        if message.role == "user":
            return message.has_results()
    return False


def _object(call: ToolCall) -> object:
    try:
        return msgspec.json.decode(call.arguments)
    except msgspec.DecodeError:
        return {}
