"""Whole streams, cut anywhere, and whatever JSON a provider may think of."""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.anthropic_blocks import named_event, text_block, thinking_block, tool_block
from bench.openai_wire import DONE, Chunks, ToolCall, event
from meshwright_common.errors import ServiceError
from meshwright_model_router.domain.output import Piece
from meshwright_model_router.providers.anthropic_events import MessageAssembly
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.openai_chunks import Assembly
from meshwright_model_router.providers.sse import SseParser
from meshwright_model_router.providers.streaming import StreamAssembly
from meshwright_model_router.providers.tool_names import ToolNames

# A busy machine is slow, and that is no failure.
ANY_MACHINE = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
ENDPOINT = Endpoint(deployment="m", base_url="http://127.0.0.1/v1")
ASSEMBLIES: dict[str, Callable[[], StreamAssembly]] = {
    "openai": lambda: Assembly(ENDPOINT, ToolNames(())),
    "anthropic": lambda: MessageAssembly(ENDPOINT, ToolNames(())),
}

# Lone surrogates cannot be encoded by the writer; how they are read is tested elsewhere.
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_names = st.sampled_from(
    [
        *("choices", "delta", "content", "tool_calls", "function", "arguments", "index", "id"),
        *("usage", "prompt_tokens", "finish_reason", "error", "message", "type", "model", "name"),
        *("content_block", "partial_json", "stop_reason", "input_tokens", "text", "thinking"),
    ]
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**20) | st.floats() | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=12,
)
_kinds = st.sampled_from(
    ["message_start", "content_block_start", "content_block_delta", "message_delta", "error", "x"]
)


def openai_stream(words: list[str], arguments: str) -> bytes:
    chunks = Chunks(model="m", completion_id="c", created=1, include_usage=True)
    call = ToolCall("c1", "f", arguments)
    data = [chunks.role(), *map(chunks.content, words), *chunks.tool_call(0, call)]
    return b"".join(map(event, [*data, chunks.finish("tool_calls")])) + DONE


def anthropic_stream(words: list[str], arguments: str) -> bytes:
    blocks = [
        *thinking_block(0, 1),
        *text_block(1, words),
        *tool_block(2, ToolCall("c1", "f", arguments)),
    ]
    return b"".join([*blocks, named_event("message_stop", b'{"type":"message_stop"}')])


STREAMS = {"openai": openai_stream, "anthropic": anthropic_stream}


def read(kind: str, pieces: list[bytes]) -> tuple[str, str, bool]:
    """Return the text and the arguments that a stream brings, and whether it came to its end."""
    parser, assembly = SseParser(), ASSEMBLIES[kind]()
    found: list[Piece] = []
    for piece in pieces:
        added = assembly.take(parser.feed(piece))
        if added is not None:
            found.append(added)
    calls = "".join(call.arguments for piece in found for call in piece.tool_calls)
    return "".join(piece.text for piece in found), calls, assembly.complete


@pytest.mark.parametrize("kind", STREAMS)
@given(st.lists(_text, max_size=6), _text, st.data())
@settings(ANY_MACHINE, max_examples=100)
def test_any_splitting_of_an_answer_gives_the_same_answer(
    kind: str, words: list[str], arguments: str, data: st.DataObject
) -> None:
    """F-56: torn characters, events and lines."""
    stream = STREAMS[kind](words, arguments)
    cuts = sorted({0, len(stream), *data.draw(st.lists(st.integers(0, len(stream))))})
    pieces = [stream[begin:end] for begin, end in pairwise(cuts)]
    # A call without arguments has an empty object of them in Anthropic's protocol.
    expected = arguments or ("{}" if kind == "anthropic" else "")
    assert read(kind, pieces) == ("".join(words), expected, True)


def is_read(assembly: StreamAssembly, data: bytes) -> bool:
    """Return whether an event is read; what is refused is refused with a reason of ours."""
    try:
        assembly.take([data])
    except ServiceError as error:
        if not error.reason.startswith(("PROVIDER_", "CONTEXT_LENGTH")):
            raise
        return False
    return True


@pytest.mark.parametrize("kind", ASSEMBLIES)
@given(st.lists(_json, max_size=4), _kinds)
@settings(ANY_MACHINE, max_examples=120)
def test_any_json_is_read_or_refused_with_a_reason(
    kind: str, events: list[Any], event_type: str
) -> None:
    """F-57: wrong types, numbers that are none, whatever: never anything but our own errors."""
    assembly = ASSEMBLIES[kind]()
    for one in events:
        value = one | {"type": event_type} if isinstance(one, dict) else one
        if not is_read(assembly, json.dumps(value).encode()):
            return
    if assembly.complete:
        assembly.ended()


@pytest.mark.parametrize("kind", ASSEMBLIES)
@given(st.binary(max_size=60))
@settings(ANY_MACHINE, max_examples=200)
def test_any_bytes_are_read_or_refused_with_a_reason(kind: str, data: bytes) -> None:
    """The same for what is no JSON."""
    is_read(ASSEMBLIES[kind](), data)
