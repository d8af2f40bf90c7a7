"""The bytes of OpenAI's chat completions, embeddings and errors, and of time-stamped tokens."""

import re
import time
from dataclasses import dataclass

import msgspec

STAMP_MODULUS = 1 << 32
"""Stamps are microseconds of the machine's monotonic clock, 32 bits: they wrap in 71 minutes."""
TOKEN = re.compile(rb"~([0-9a-f]{8})")
TOKEN_LENGTH = 9
"""Length of what is recognised; the blank behind it may arrive in another piece."""
DONE = b"data: [DONE]\n\n"


def stamp() -> int:
    """Return the machine's monotonic clock in microseconds modulo STAMP_MODULUS."""
    return (time.monotonic_ns() // 1000) % STAMP_MODULUS


def token(sent_at: int) -> bytes:
    """Return the token that carries its sending time; tokens can be told apart when merged."""
    return b"~%08x " % sent_at


def sent_times(text: bytes) -> list[int]:
    """Return the sending times of all whole tokens in a text, in the order of the text."""
    return [int(digits, 16) for digits in TOKEN.findall(text)]


class Part(msgspec.Struct):
    """One part of a message whose content is a list."""

    type: str = "text"
    text: str = ""


class Message(msgspec.Struct):
    """A chat message, as far as the simulator reads it."""

    role: str
    content: str | list[Part] | None = None

    def plain_text(self) -> str:
        """Return the text of the message, parts joined by blanks."""
        if self.content is None:
            return ""
        if isinstance(self.content, str):
            return self.content
        return " ".join(part.text for part in self.content)


class StreamOptions(msgspec.Struct):
    """OpenAI's stream_options."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class ChatRequest(msgspec.Struct):
    """The fields of a chat completion request that the simulator reads."""

    model: str
    messages: list[Message]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


class EmbeddingRequest(msgspec.Struct):
    """The fields of an embedding request that the simulator reads."""

    model: str
    input: str | list[str | int | list[int]]
    dimensions: int | None = None
    encoding_format: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as a provider reports them; `kind` makes it lie."""

    prompt_tokens: int
    completion_tokens: int
    kind: str = "normal"
    cached_tokens: int = 0

    def json(self) -> bytes | None:
        """Return the usage object, or None when the provider does not tell."""
        if self.kind == "missing":
            return None
        lies: dict[str, int | str] = {"negative": -5, "absurd": 10**15, "text": "many"}
        completion: int | str = lies.get(self.kind, self.completion_tokens)
        total = self.prompt_tokens + completion if isinstance(completion, int) else completion
        return msgspec.json.encode(
            {
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": completion,
                "total_tokens": total,
                "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
                "completion_tokens_details": {"reasoning_tokens": 0},
            }
        )


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks for; `arguments` is JSON, or is meant to be."""

    call_id: str
    name: str
    arguments: str


class Chunks:
    """Builds the chunks of one streamed completion as JSON."""

    def __init__(
        self, *, model: str, completion_id: str, created: int, include_usage: bool
    ) -> None:
        """`include_usage` adds `"usage":null` to every chunk, as OpenAI does."""
        self.completion_id = completion_id
        self.created = created
        self.model = model
        self._head = (
            b'{"id":"%b","object":"chat.completion.chunk","created":%d,"model":%b,"choices":['
            % (completion_id.encode(), created, msgspec.json.encode(model))
        )
        self._tail = b',"usage":null}' if include_usage else b"}"

    def delta(self, delta: bytes, finish_reason: bytes = b"null") -> bytes:
        """Return one chunk around a delta that is JSON already."""
        return b'%b{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}]%b' % (
            self._head,
            delta,
            finish_reason,
            self._tail,
        )

    def role(self) -> bytes:
        """Return the first chunk."""
        return self.delta(b'{"role":"assistant","content":""}')

    def content(self, text: str) -> bytes:
        """Return a chunk with a piece of text."""
        return self.delta(b'{"content":%b}' % msgspec.json.encode(text))

    def reasoning(self, text: str) -> bytes:
        """Return a chunk with a piece of reasoning, as vLLM and DeepSeek send it."""
        return self.delta(b'{"reasoning_content":%b}' % msgspec.json.encode(text))

    def counted(self, text: str, usage: bytes) -> bytes:
        """Return a chunk with text and the usage up to it, as vLLM sends it when it is asked to."""
        delta = b'{"content":%b}' % msgspec.json.encode(text)
        return b'%b{"index":0,"delta":%b,"logprobs":null,"finish_reason":null}],"usage":%b}' % (
            self._head,
            delta,
            usage,
        )

    def token_frame(self) -> tuple[bytes, bytes]:
        """Return what stands before and after a time-stamped token in its chunk."""
        # JSON never holds a bare NUL, whatever the model is called.
        before, after = self.delta(b'{"content":"\0"}').split(b"\0")
        return before, after

    def token_event(self) -> tuple[bytes, bytes]:
        """Return what stands before and after a time-stamped token in its event."""
        before, after = self.token_frame()
        return b"data: " + before, after + b"\n\n"

    def tool_call(self, index: int, call: ToolCall) -> list[bytes]:
        """Return the chunks of one call: its name first, then its arguments in two pieces."""
        half = len(call.arguments) // 2
        opening = {
            "index": index,
            "id": call.call_id,
            "type": "function",
            "function": {"name": call.name, "arguments": ""},
        }
        pieces = [{"index": index, "function": {"arguments": call.arguments[:half]}}]
        pieces.append({"index": index, "function": {"arguments": call.arguments[half:]}})
        return [
            self.delta(msgspec.json.encode({"tool_calls": [piece]})) for piece in (opening, *pieces)
        ]

    def finish(self, reason: str) -> bytes:
        """Return the chunk that carries the finish reason."""
        return self.delta(b"{}", b'"%b"' % reason.encode())

    def usage(self, usage: bytes) -> bytes:
        """Return the last chunk, without choices."""
        return b'%b],"usage":%b}' % (self._head, usage)


def event(data: bytes) -> bytes:
    """Return one server-sent event."""
    return b"data: %b\n\n" % data


def completion(
    chunks: Chunks,
    *,
    content: str | None,
    calls: list[ToolCall],
    reason: str,
    usage: bytes | None,
) -> bytes:
    """Return the body of a completion that is not streamed."""
    message: dict[str, object] = {"role": "assistant", "content": content, "refusal": None}
    if calls:
        message["tool_calls"] = [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in calls
        ]
    body: dict[str, object] = {
        "id": chunks.completion_id,
        "object": "chat.completion",
        "created": chunks.created,
        "model": chunks.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
    }
    if usage is not None:
        body["usage"] = msgspec.Raw(usage)
    return msgspec.json.encode(body)


_ERROR_TYPES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}


def error(status: int, message: str, *, parameter: str | None = None) -> bytes:
    """Return OpenAI's error body for an HTTP status."""
    kind = _ERROR_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return msgspec.json.encode(
        {"error": {"message": message, "type": kind, "param": parameter, "code": kind}}
    )
