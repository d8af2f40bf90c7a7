"""From a chat request to the answer that the simulated provider gives."""

import re
from dataclasses import dataclass

from bench import directives
from bench.directives import ReplyPlan
from bench.openai_wire import (
    DONE,
    ChatRequest,
    Chunks,
    ToolCall,
    Usage,
    completion,
    error,
    event,
    stamp,
    token,
)

_PIECE = re.compile(r"\s*\S+\s*$|\s*\S+")


def words_of(text: str) -> list[str]:
    """Return the text word by word, each with the blanks before it."""
    return _PIECE.findall(text)


def directive_of(request: ChatRequest) -> str:
    """Return the directive of the last user message, else the model's name."""
    for message in reversed(request.messages):
        if message.role == "user":
            return directives.find(message.plain_text()) or request.model
    return request.model


def _tools_answered(request: ChatRequest) -> bool:
    for message in reversed(request.messages):
        if message.role == "tool":
            return True
        if message.role == "user":
            return False
    return False


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, ready to be streamed piece by piece or sent at once."""

    chunks: Chunks
    pieces: tuple[bytes, ...]
    """Events of a fixed answer. Empty: `tokens` time-stamped tokens."""
    text: str
    calls: tuple[ToolCall, ...]
    tokens: int
    finish_reason: str
    usage: bytes | None
    """Usage object as JSON; None when the provider tells none."""
    usage_in_stream: bool
    prompt_tokens: int = 0
    usage_in_chunks: bool = False
    """Each chunk tells the usage up to it."""

    @property
    def length(self) -> int:
        """Number of pieces to stream."""
        return len(self.pieces) or self.tokens

    def opening(self) -> bytes:
        """Return the event before the first piece."""
        return event(self.chunks.role())

    def closing(self, *, done: bool = True) -> bytes:
        """Return the events after the last piece."""
        closing = event(self.chunks.finish(self.finish_reason))
        if self.usage_in_stream and self.usage is not None:
            closing += event(self.chunks.usage(self.usage))
        return closing + DONE if done else closing

    def token_event(self) -> tuple[bytes, bytes]:
        """Return what stands before and after a time-stamped token in its event."""
        return self.chunks.token_event()

    def counted_event(self, tokens: int) -> bytes:
        """Return a time-stamped token as the event number `tokens`, with the usage up to it."""
        usage = Usage(self.prompt_tokens, tokens).json()
        return event(self.chunks.counted(token(stamp()).decode(), usage or b"null"))

    def fault(self) -> bytes:
        """Return an error as an event within the stream."""
        return event(error(500, "simulated fault"))

    def body(self) -> bytes:
        """Return the answer as one body, tokens stamped now."""
        content: str | None = self.text
        if self.calls:
            content = None
        elif not self.pieces:
            content = (token(stamp()) * self.tokens).decode()
        return completion(
            self.chunks,
            content=content,
            calls=list(self.calls),
            reason=self.finish_reason,
            usage=self.usage,
        )


def answer_to(request: ChatRequest, plan: ReplyPlan, *, number: int, created: int) -> Answer:
    """Return the answer of a plan; `number` makes its ids unique."""
    include_usage = bool(request.stream_options and request.stream_options.include_usage)
    chunks = Chunks(
        model=request.model,
        completion_id=f"chatcmpl-sim{number}",
        created=created,
        include_usage=include_usage,
    )
    calls: tuple[ToolCall, ...] = ()
    pieces: tuple[bytes, ...] = ()
    tokens, reason = plan.tokens, "stop"
    if plan.tool and (plan.endless_tools or not _tools_answered(request)):
        calls = tuple(
            ToolCall(f"call_sim{number}_{index}", plan.tool, plan.arguments)
            for index in range(plan.calls)
        )
        pieces = tuple(
            event(chunk)
            for index, call in enumerate(calls)
            for chunk in chunks.tool_call(index, call)
        )
        tokens, reason = len(pieces), "tool_calls"
    elif plan.thinking:
        thoughts = [chunks.reasoning(f"thought {number} ") for number in range(plan.thinking)]
        said = words_of(plan.text) if plan.text else [token(stamp()).decode()] * plan.tokens
        pieces = tuple(map(event, (*thoughts, *map(chunks.content, said))))
        tokens = len(pieces)
    elif plan.text:
        pieces = tuple(event(chunks.content(word)) for word in words_of(plan.text))
        tokens = len(pieces)
    else:
        limit = request.max_completion_tokens or request.max_tokens
        if limit is not None and limit < tokens:
            tokens, reason = limit, "length"
    prompt_tokens = sum(max(1, len(message.plain_text()) // 4) for message in request.messages)
    return Answer(
        chunks=chunks,
        pieces=pieces,
        text=plan.text,
        calls=calls,
        tokens=tokens,
        finish_reason=plan.stop or reason,
        usage=Usage(prompt_tokens, tokens, plan.usage, plan.cached).json(),
        usage_in_stream=include_usage,
        prompt_tokens=prompt_tokens,
        usage_in_chunks=bool(
            request.stream_options and request.stream_options.continuous_usage_stats
        ),
    )
