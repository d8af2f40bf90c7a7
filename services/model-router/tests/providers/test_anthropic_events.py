"""Events of Anthropic's stream, made of the official client's own types, and worse ones."""

import json
from typing import Any

import pytest
from anthropic import types
from pydantic import BaseModel

from meshwright_common.errors import ServiceError
from meshwright_model_router.domain.conversation import ToolDefinition
from meshwright_model_router.domain.output import FinishReason, Piece, ReportedUsage
from meshwright_model_router.providers.anthropic_events import MessageAssembly
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.tool_names import ToolNames

ENDPOINT = Endpoint(deployment="m", base_url="http://127.0.0.1/v1")


def assembly(output_tool: str = "") -> MessageAssembly:
    return MessageAssembly(ENDPOINT, ToolNames([ToolDefinition("kb.search")]), output_tool)


def event(model: BaseModel) -> bytes:
    return model.model_dump_json().encode()


def start(**usage: Any) -> bytes:
    counts = types.Usage(input_tokens=10, output_tokens=1, **usage)
    message = types.Message(
        id="m", content=[], model="claude-x", role="assistant", type="message", usage=counts
    )
    return event(types.RawMessageStartEvent(message=message, type="message_start"))


def block(index: int, content: Any) -> bytes:
    return event(
        types.RawContentBlockStartEvent(
            content_block=content, index=index, type="content_block_start"
        )
    )


def delta(index: int, content: Any) -> bytes:
    return event(
        types.RawContentBlockDeltaEvent(delta=content, index=index, type="content_block_delta")
    )


def stop(index: int) -> bytes:
    return event(types.RawContentBlockStopEvent(index=index, type="content_block_stop"))


def end(reason: Any, **usage: Any) -> bytes:
    ended = types.raw_message_delta_event.Delta(stop_reason=reason)
    counts = types.MessageDeltaUsage(output_tokens=7, **usage)
    made = types.RawMessageDeltaEvent(delta=ended, type="message_delta", usage=counts)
    return event(made)


DONE = event(types.RawMessageStopEvent(type="message_stop"))


def raw(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_text_thinking_and_signature() -> None:
    read = assembly()
    piece = read.take(
        [
            start(),
            block(0, types.ThinkingBlock(thinking="", signature="", type="thinking")),
            delta(0, types.ThinkingDelta(thinking="hm ", type="thinking_delta")),
            delta(0, types.SignatureDelta(signature="c2ln", type="signature_delta")),
            stop(0),
            raw(type="ping"),
            block(1, types.TextBlock(text="", type="text")),
            delta(1, types.TextDelta(text="a", type="text_delta")),
            delta(1, types.TextDelta(text="b", type="text_delta")),
        ]
    )
    assert piece is not None
    assert (piece.text, piece.reasoning) == ("ab", "hm ")
    # Known before the end, so that a stream that breaks is counted by it.
    assert piece.usage == ReportedUsage(10, 0)
    assert read.model == "claude-x"
    assert not read.complete


def test_calls_of_tools_in_pieces_under_our_names() -> None:
    read = assembly()
    tool = types.ToolUseBlock(id="t1", name="kb_search", input={}, type="tool_use")
    other = types.ToolUseBlock(id="t2", name="invented", input={}, type="tool_use")
    piece = read.take(
        [
            start(),
            block(3, tool),
            delta(3, types.InputJSONDelta(partial_json="", type="input_json_delta")),
            delta(3, types.InputJSONDelta(partial_json='{"q"', type="input_json_delta")),
            delta(3, types.InputJSONDelta(partial_json=":1}", type="input_json_delta")),
            stop(3),
            block(9, other),  # indexes with a gap, a tool that nobody offered, no arguments
            stop(9),
            end("tool_use"),
            DONE,
        ]
    )
    assert piece is not None
    parts = [(part.index, part.id, part.name, part.arguments) for part in piece.tool_calls]
    assert parts == [
        (0, "t1", "kb.search", ""),
        (0, "", "", '{"q"'),
        (0, "", "", ":1}"),
        (1, "t2", "invented", ""),
        (1, "", "", "{}"),
    ]
    assert read.done
    assert read.ended().finish_reason is FinishReason.TOOL_CALLS


def test_arguments_that_come_with_the_start_are_taken() -> None:
    read = assembly()
    tool = types.ToolUseBlock(id="t", name="f", input={"a": 1}, type="tool_use")
    piece = read.take([block(0, tool), stop(0)])
    assert piece is not None
    assert json.loads("".join(part.arguments for part in piece.tool_calls)) == {"a": 1}


def test_calls_beyond_sixteen_are_dropped() -> None:
    """F-57: 500 parallel calls."""
    read, events = assembly(), []
    for index in range(500):
        name = f"t{index}"
        tool = types.ToolUseBlock(id=name, name="f", input={}, type="tool_use")
        arguments = types.InputJSONDelta(partial_json="{}", type="input_json_delta")
        events += [block(index, tool), delta(index, arguments), stop(index)]
    piece = read.take(events)
    assert piece is not None
    assert {part.index for part in piece.tool_calls} == set(range(16))


def test_tool_that_carries_the_answer_is_its_text() -> None:
    read = assembly("structured_output")
    tool = types.ToolUseBlock(id="t", name="structured_output", input={}, type="tool_use")
    piece = read.take(
        [
            block(0, types.TextBlock(text="Sure: ", type="text")),
            block(1, tool),
            delta(1, types.InputJSONDelta(partial_json='{"a":', type="input_json_delta")),
            delta(1, types.InputJSONDelta(partial_json="1}", type="input_json_delta")),
            stop(1),
            end("tool_use"),
        ]
    )
    assert piece == Piece('{"a":1}', usage=ReportedUsage(0, 7))
    assert read.ended().finish_reason is FinishReason.STOP


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("pause_turn", FinishReason.LENGTH),
        ("refusal", FinishReason.CONTENT_FILTER),
    ],
)
def test_stop_reasons(reason: str, expected: FinishReason) -> None:
    read = assembly()
    read.take([end(reason)])
    assert read.complete
    assert read.ended().finish_reason is expected


def test_unknown_stop_reason_is_an_end() -> None:
    read = assembly()
    read.take([raw(type="message_delta", delta={"stop_reason": "bored"})])
    assert read.ended().finish_reason is FinishReason.STOP


def test_tokens_of_the_cache_are_part_of_the_prompt() -> None:
    read = assembly()
    details = types.OutputTokensDetails(thinking_tokens=3)
    told = start(cache_read_input_tokens=90, cache_creation_input_tokens=20)
    read.take([told, end("end_turn", output_tokens_details=details), DONE])
    assert read.ended().usage == ReportedUsage(120, 7, 90, 3)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"output_tokens": -5}, ReportedUsage(10, -5)),
        ({"output_tokens": 10**15}, ReportedUsage(10, 10**15)),
        ({"input_tokens": -5, "output_tokens": 2}, ReportedUsage(0, 2)),
        ({"output_tokens": "many"}, ReportedUsage(10, 1)),
        ({"output_tokens": 1.5}, ReportedUsage(10, 1)),
        (None, ReportedUsage(10, 1)),
        ([], ReportedUsage(10, 1)),
    ],
)
def test_lies_about_usage_reach_nobody_as_numbers_that_add_up(
    usage: object, expected: ReportedUsage
) -> None:
    """F-57: what is left is judged by `domain.usage.settle`, as for every provider."""
    read = assembly()
    read.take([start(), raw(type="message_delta", delta={"stop_reason": "end_turn"}, usage=usage)])
    assert read.ended().usage == expected


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("overloaded_error", "PROVIDER_UNAVAILABLE"),
        ("api_error", "PROVIDER_UNAVAILABLE"),
        ("rate_limit_error", "PROVIDER_RATE_LIMIT"),
        ("authentication_error", "PROVIDER_CREDENTIALS"),
        ("billing_error", "PROVIDER_CREDENTIALS"),
        ("invalid_request_error", "PROVIDER_REJECTED"),
        ("not_found_error", "PROVIDER_REJECTED"),
    ],
)
def test_error_within_the_stream(kind: str, reason: str) -> None:
    with pytest.raises(ServiceError) as raised:
        assembly().take([start(), raw(type="error", error={"type": kind, "message": "no"})])
    assert raised.value.reason == reason


@pytest.mark.parametrize(
    "data",
    [b"[1]", b"{", b'{"type":5}', b'{"type":"content_block_delta","index":"x","delta":{}}', b"NaN"],
)
def test_what_is_no_event_breaks_the_protocol(data: bytes) -> None:
    with pytest.raises(ServiceError) as raised:
        assembly().take([data])
    assert raised.value.reason == "PROVIDER_PROTOCOL"


def test_lone_surrogates_are_replaced() -> None:
    data = (
        b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a\\ud83d"}}'
    )
    piece = assembly().take([data])
    assert piece is not None
    assert piece.text == "a\ufffd"


def test_what_is_not_known_yet_is_passed_over() -> None:
    unknown = raw(type="content_block_delta", index=0, delta={"type": "video_delta", "video": "x"})
    assert assembly().take([raw(type="new_event", x=1), unknown, b""]) is None
