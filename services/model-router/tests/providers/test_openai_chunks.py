"""Chunks as providers really send them: dialects of OpenAI's format."""

import json

import pytest

from meshwright_common.errors import ServiceError
from meshwright_model_router.domain.output import FinishReason, Piece, ReportedUsage
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.openai_chunks import Assembly
from meshwright_model_router.providers.tool_names import ToolNames

ENDPOINT = Endpoint(deployment="m", base_url="http://127.0.0.1/v1")


def assembly() -> Assembly:
    return Assembly(ENDPOINT, ToolNames(()))


def chunk(delta: dict[str, object] | None = None, **fields: object) -> bytes:
    choice: dict[str, object] = {"index": 0, "delta": delta or {}, "finish_reason": None}
    return json.dumps({"model": "m-1", "choices": [choice]} | fields).encode()


def take(*events: bytes) -> Piece:
    piece = assembly().take(list(events))
    assert piece is not None
    return piece


def test_text_and_reasoning_of_several_chunks_are_one_piece() -> None:
    piece = take(
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "hm "}),
        chunk({"reasoning": "so "}),
        chunk({"content": "a"}),
        chunk({"content": "b"}),
    )
    assert piece == Piece("ab", "hm so ")


def test_refusal_is_text() -> None:
    assert take(chunk({"content": None, "refusal": "no"})).text == "no"


def test_opening_without_output_is_no_piece() -> None:
    opened = assembly()
    assert opened.take([chunk({"role": "assistant", "content": ""})]) is None
    assert opened.model == "m-1"


def test_other_choices_are_left_out() -> None:
    second = json.dumps({"choices": [{"index": 1, "delta": {"content": "x"}}]}).encode()
    assert assembly().take([second]) is None


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("tool_calls", FinishReason.TOOL_CALLS),
        ("function_call", FinishReason.TOOL_CALLS),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("eos", FinishReason.STOP),
    ],
)
def test_finish_reasons(reason: str, expected: FinishReason) -> None:
    read = assembly()
    read.take([json.dumps({"choices": [{"index": 0, "finish_reason": reason}]}).encode()])
    assert read.complete
    assert read.ended().finish_reason is expected


def test_usage_with_its_details() -> None:
    read = assembly()
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    read.take([chunk(usage=None), chunk(usage=usage, choices=[]), b"[DONE]"])
    assert read.ended().usage == ReportedUsage(10, 5, 4, 3)


@pytest.mark.parametrize(
    "usage", [{"prompt_tokens": "many"}, {"prompt_tokens": 1.5}, {"completion_tokens": 3}, [], "x"]
)
def test_usage_that_is_no_usage_is_none(usage: object) -> None:
    read = assembly()
    read.take([chunk({"content": "a"}, usage=usage), b"[DONE]"])
    assert read.ended().usage is None


def test_calls_told_apart_by_id_alone() -> None:
    """Gemini's OpenAI door gives every call the index 0."""
    piece = take(
        chunk(
            {
                "tool_calls": [
                    {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}},
                    {"index": 0, "id": "b", "function": {"name": "g", "arguments": "{}"}},
                ]
            }
        )
    )
    assert [(part.index, part.id, part.name) for part in piece.tool_calls] == [
        (0, "a", "f"),
        (1, "b", "g"),
    ]


def test_call_without_id_gets_one() -> None:
    (part,) = take(chunk({"tool_calls": [{"function": {"name": "f"}}]})).tool_calls
    assert part.id.startswith("call_")


def test_arguments_follow_their_call() -> None:
    piece = take(
        chunk({"tool_calls": [{"index": 3, "id": "a", "function": {"name": "f"}}]}),
        chunk({"tool_calls": [{"index": 3, "function": {"arguments": '{"x"'}}]}),
        chunk({"tool_calls": [{"index": 3, "id": "a", "function": {"arguments": ":1}"}}]}),
    )
    assert [part.index for part in piece.tool_calls] == [0, 0, 0]
    assert "".join(part.arguments for part in piece.tool_calls) == '{"x":1}'


def test_null_where_a_list_is_expected_is_nothing() -> None:
    assert assembly().take([chunk({"content": None, "tool_calls": None})]) is None


def test_empty_data_and_unknown_objects_are_nothing() -> None:
    assert assembly().take([b"", b"{}", b'{"type":"ping"}']) is None


@pytest.mark.parametrize("data", [b"[1]", b"1", b'{"choices":5}', b"{", b"[" * 100_000])
def test_what_is_no_chunk_breaks_the_protocol(data: bytes) -> None:
    with pytest.raises(ServiceError) as raised:
        assembly().take([data])
    assert raised.value.reason == "PROVIDER_PROTOCOL"


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        (r"\ud83d", "\ufffd"),
        (r"\ude00", "\ufffd"),
        (r"a\ud83db", "a\ufffdb"),
        (r"\ud83d\ude00", "\U0001f600"),
        (r"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
    ],
)
def test_lone_surrogates_are_replaced(escaped: str, text: str) -> None:
    assert take(b'{"choices":[{"delta":{"content":"%b"}}]}' % escaped.encode()).text == text


def test_usage_under_way_travels_with_the_pieces() -> None:
    """vLLM's continuous_usage_stats: what a stream has used when it breaks."""
    read = assembly()
    told = {"prompt_tokens": 9, "completion_tokens": 0}
    assert read.take([chunk({"role": "assistant", "content": ""}, usage=told)]) is None
    assert read.prompt_usage == ReportedUsage(9, 0)
    piece = read.take([chunk({"content": "a"}, usage=told | {"completion_tokens": 1})])
    assert piece == Piece("a", usage=ReportedUsage(9, 1))


def test_failure_as_a_finish_reason_is_no_end() -> None:
    """OpenRouter's way to say that the model behind it failed."""
    with pytest.raises(ServiceError) as raised:
        assembly().take([json.dumps({"choices": [{"finish_reason": "error"}]}).encode()])
    assert raised.value.reason == "PROVIDER_TRUNCATED"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"code": 429, "message": "slow"}, "PROVIDER_RATE_LIMIT"),
        ({"code": "server_error", "message": "gone"}, "PROVIDER_UNAVAILABLE"),
        ("just words", "PROVIDER_UNAVAILABLE"),
        ({"code": 400, "message": "context length exceeded"}, "CONTEXT_LENGTH_EXCEEDED"),
    ],
)
def test_error_beside_choices_ends_the_stream(error: object, reason: str) -> None:
    data = {"error": error, "choices": [{"index": 0, "delta": {"content": ""}}]}
    with pytest.raises(ServiceError) as raised:
        assembly().take([chunk({"content": "a"}), json.dumps(data).encode()])
    assert raised.value.reason == reason


@pytest.mark.parametrize(
    "data",
    [
        b'{"choices":[{"delta":{"content":NaN}}]}',
        b'{"choices":[{"delta":{"content":5}}]}',
        b'{"choices":[{"delta":{"tool_calls":{}}}]}',
        b'{"choices":[{"delta":{"tool_calls":[{"index":"x"}]}}]}',
        b'{"choices":[{"finish_reason":7}]}',
        b'{"model":5}',
        b'{"choices":[{"index":0.5}]}',
    ],
)
def test_wrong_types_break_the_protocol(data: bytes) -> None:
    """F-57."""
    with pytest.raises(ServiceError) as raised:
        assembly().take([data])
    assert raised.value.reason == "PROVIDER_PROTOCOL"


def test_usage_that_is_no_number_is_none() -> None:
    """F-57: not a number there says nothing, and breaks nothing."""
    read = assembly()
    read.take([chunk({"content": "a"}), b'{"usage":{"prompt_tokens":null}}', b"[DONE]"])
    assert read.ended().usage is None


def test_calls_with_gaps_between_their_indexes_are_counted_from_0() -> None:
    """F-57."""
    calls = [{"index": at, "id": f"c{at}", "function": {"name": "f"}} for at in (7, 3, 500)]
    assert [part.index for part in take(chunk({"tool_calls": calls})).tool_calls] == [0, 1, 2]


def test_tool_that_nobody_offered_and_arguments_that_are_no_json_pass_as_they_are() -> None:
    """F-57: whoever runs tools refuses them, and tells the model."""
    made = {"id": "c", "function": {"name": "invented.tool", "arguments": "{oops"}}
    (part,) = take(chunk({"tool_calls": [made]})).tool_calls
    assert (part.name, part.arguments) == ("invented.tool", "{oops")
