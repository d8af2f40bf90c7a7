"""Requests of Anthropic's Messages API, checked against the types of its own client."""

import json
from typing import Any, Final

import pytest
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from pydantic import TypeAdapter

from bench.official_types import check
from meshwright_model_router.domain.conversation import (
    Image,
    JsonObject,
    Message,
    Options,
    OutputFormat,
    Prompt,
    Role,
    ToolCall,
    ToolChoice,
    ToolDefinition,
)
from meshwright_model_router.providers.anthropic_request import encode_request
from meshwright_model_router.providers.endpoint import AnthropicOptions
from meshwright_model_router.providers.tool_names import ToolNames

OLD = "claude-3-7-sonnet-20250219"
MIDDLE = "claude-haiku-4-5-20251001"
NEW = "claude-opus-4-7"
CLOSED: Final[JsonObject] = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "additionalProperties": False,
}
SEARCH = ToolDefinition("kb.search", "Search.", {"type": "object", "properties": {}})
_official = TypeAdapter(MessageCreateParamsStreaming)


def user(*parts: str | Image) -> Message:
    return Message(Role.USER, parts)


def body(
    prompt: Prompt, model: str = NEW, options: AnthropicOptions | None = None
) -> dict[str, Any]:
    """Return the body, once the official client's types agree with it."""
    names = ToolNames(prompt.tools)
    encoded = encode_request(options or AnthropicOptions(), model, prompt, names).body
    decoded: dict[str, Any] = json.loads(encoded)
    # temperature and top_p left the client's types with the models that refuse them.
    known = {name: value for name, value in decoded.items() if name not in ("temperature", "top_p")}
    check(_official, known)
    return decoded


def test_system_stands_apart_wherever_it_stood() -> None:
    prompt = Prompt((Message(Role.SYSTEM, ("Be brief.",)), user("a"), Message(Role.SYSTEM, ("b",))))
    sent = body(prompt)
    assert [block["text"] for block in sent["system"]] == ["Be brief.", "b"]
    assert [message["role"] for message in sent["messages"]] == ["user"]
    assert sent["max_tokens"] == 8192
    assert sent["stream"] is True


def test_results_of_tools_are_blocks_of_one_message_of_the_user() -> None:
    calls = (ToolCall("a:1", "kb.search", '{"q": 1}'), ToolCall("b", "kb.search", ""))
    prompt = Prompt(
        (
            user("find"),
            Message(Role.ASSISTANT, ("Looking.",), calls),
            Message(Role.TOOL, ("one",), tool_call_id="a:1"),
            Message(Role.TOOL, ("",), tool_call_id="b"),
            user("and?"),
        ),
        (SEARCH,),
    )
    _, assistant, answer = body(prompt)["messages"]
    assert assistant["content"][1] == {
        "type": "tool_use", "id": "a_1", "name": "kb_search", "input": {"q": 1},
    }  # fmt: skip
    assert assistant["content"][2]["input"] == {}
    assert [block["type"] for block in answer["content"]] == ["tool_result", "tool_result", "text"]
    assert [block.get("tool_use_id") for block in answer["content"]] == ["a_1", "b", None]


@pytest.mark.parametrize("arguments", ["{", "[1]", "NaN", '{"a": NaN}'])
def test_arguments_that_are_no_object_are_sent_as_one(arguments: str) -> None:
    """F-57: a model's invalid JSON must not make every later request invalid."""
    call = ToolCall("a", "f", arguments)
    prompt = Prompt((user("x"), Message(Role.ASSISTANT, (), (call,))))
    (block,) = body(prompt)["messages"][1]["content"]
    assert block["input"] == {"invalid_json": arguments}


def test_images_by_data_and_by_address() -> None:
    image = Image(data=b"\x89PNG", media_type="image/png")
    sent = body(Prompt((user("see", image, Image(url="https://h/x.png")),)))
    _, by_data, by_address = sent["messages"][0]["content"]
    assert by_data["source"] == {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}
    assert by_address["source"] == {"type": "url", "url": "https://h/x.png"}


def test_blocks_without_text_are_left_out() -> None:
    sent = body(Prompt((user("", " ", "a"), Message(Role.ASSISTANT, (" ",)), user("b"))))
    assert [block["text"] for block in sent["messages"][0]["content"]] == ["a", "b"]


def test_answer_that_is_to_be_continued_ends_without_blanks() -> None:
    sent = body(Prompt((user("count"), Message(Role.ASSISTANT, ("one, \n",)))))
    assert sent["messages"][-1]["content"] == [{"type": "text", "text": "one,"}]


@pytest.mark.parametrize(
    ("choice", "name", "expected"),
    [
        (ToolChoice.AUTO, "", {"type": "auto"}),
        (ToolChoice.NONE, "", {"type": "none"}),
        (ToolChoice.REQUIRED, "", {"type": "any"}),
        (ToolChoice.REQUIRED, "kb.search", {"type": "tool", "name": "kb_search"}),
    ],
)
def test_tool_choice(choice: ToolChoice, name: str, expected: dict[str, str]) -> None:
    sent = body(Prompt((user("x"),), (SEARCH,), choice, name))
    assert sent["tool_choice"] == expected
    assert sent["tools"][0]["name"] == "kb_search"


def test_one_call_at_a_time() -> None:
    options = Options(parallel_tool_calls=False)
    sent = body(Prompt((user("x"),), (SEARCH,), options=options))
    assert sent["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


def test_effort_is_adaptive_for_newer_models_and_a_budget_for_older_ones() -> None:
    prompt = Prompt((user("x"),), options=Options(reasoning_effort="medium"))
    newer, older = body(prompt, NEW), body(prompt, OLD)
    assert newer["thinking"]["type"] == "adaptive"
    assert newer["output_config"] == {"effort": "medium"}
    assert older["thinking"] == {"type": "enabled", "budget_tokens": 8192}
    assert older["max_tokens"] == 8192 + 8192
    assert "output_config" not in older
    assert "thinking" not in body(prompt, NEW, AnthropicOptions(thinking="off"))


def test_budget_leaves_half_of_the_limit_for_the_answer() -> None:
    limited = Options(reasoning_effort="high", max_output_tokens=4000)
    assert body(Prompt((user("x"),), options=limited), OLD)["thinking"]["budget_tokens"] == 2000
    tight = Options(reasoning_effort="high", max_output_tokens=1000)
    assert "thinking" not in body(Prompt((user("x"),), options=tight), OLD)


def test_budget_pauses_between_calls_of_tools_and_beside_a_forced_one() -> None:
    effort = Options(reasoning_effort="high")
    call = ToolCall("a", "kb.search", "{}")
    asked = Message(Role.ASSISTANT, (), (call,))
    between = (user("x"), asked, Message(Role.TOOL, ("r",), tool_call_id="a"))
    assert "thinking" not in body(Prompt(between, (SEARCH,), options=effort), OLD)
    assert "thinking" in body(Prompt(between, (SEARCH,), options=effort), NEW)
    forced = Prompt((user("x"),), (SEARCH,), ToolChoice.REQUIRED, options=effort)
    assert "thinking" not in body(forced, NEW)


def test_sampling_goes_to_models_that_take_it() -> None:
    prompt = Prompt(
        (user("x"),), options=Options(temperature=1.5, top_p=0.5, stop_sequences=("E",))
    )
    older = body(prompt, OLD)
    assert (older["temperature"], older["top_p"], older["stop_sequences"]) == (1.0, 0.5, ["E"])
    assert not {"temperature", "top_p"} & body(prompt, NEW).keys()


def test_schema_is_native_where_model_and_schema_allow() -> None:
    prompt = Prompt((user("x"),), output_format=OutputFormat.JSON_SCHEMA, output_schema=CLOSED)
    native = {"format": {"type": "json_schema", "schema": CLOSED}}
    assert body(prompt, MIDDLE)["output_config"] == native
    by_tool = body(prompt, OLD)
    assert by_tool["tool_choice"] == {"type": "tool", "name": "structured_output"}
    assert by_tool["tools"][0]["input_schema"] == CLOSED
    opened = {**CLOSED, "additionalProperties": True}
    loose = Prompt((user("x"),), output_format=OutputFormat.JSON_SCHEMA, output_schema=opened)
    assert "output_config" not in body(loose, NEW)


def test_schema_beside_tools_leaves_the_choice_between_them() -> None:
    prompt = Prompt(
        (user("x"),), (SEARCH,), output_format=OutputFormat.JSON_SCHEMA, output_schema=CLOSED
    )
    sent = body(prompt, OLD)
    assert sent["tool_choice"] == {"type": "any"}
    assert [tool["name"] for tool in sent["tools"]] == ["kb_search", "structured_output"]


def test_long_prefixes_are_marked_for_the_cache_when_asked() -> None:
    system = Message(Role.SYSTEM, ("rule " * 2000,))
    long = Prompt((system, user("x")))
    sent = body(long, options=AnthropicOptions(prompt_cache="1h"))
    mark = {"type": "ephemeral", "ttl": "1h"}
    assert sent["system"][-1]["cache_control"] == mark
    assert sent["messages"][-1]["content"][-1]["cache_control"] == mark
    assert "cache_control" not in json.dumps(body(long))
    short = Prompt((user("x"),), (SEARCH,))
    assert "cache_control" not in json.dumps(
        body(short, options=AnthropicOptions(prompt_cache="5m"))
    )
