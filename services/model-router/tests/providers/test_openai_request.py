"""A prompt as OpenAI's request body."""

import json
from dataclasses import replace

import pytest

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
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.openai_request import encode_request
from meshwright_model_router.providers.tool_names import ToolNames

ENDPOINT = Endpoint(deployment="m", base_url="http://127.0.0.1/v1")
ASK = Message(Role.USER, ("hi",))


def body_of(prompt: Prompt, endpoint: Endpoint = ENDPOINT) -> dict[str, object]:
    decoded: dict[str, object] = json.loads(
        encode_request(endpoint, "model", prompt, ToolNames(prompt.tools))
    )
    return decoded


def test_defaults_of_the_provider_are_left_to_it() -> None:
    assert body_of(Prompt((ASK,))) == {
        "model": "model",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_server_that_refuses_stream_options_is_not_sent_them() -> None:
    assert "stream_options" not in body_of(Prompt((ASK,)), replace(ENDPOINT, stream_usage=False))


def test_options_have_openais_names() -> None:
    options = Options(0.5, 0.9, 100, ("END",), 7, 0.1, -0.1, "low", True)
    body = body_of(Prompt((ASK,), (ToolDefinition("t"),), options=options))
    assert body["temperature"] == 0.5
    assert body["top_p"] == 0.9
    assert body["max_tokens"] == 100
    assert body["stop"] == ["END"]
    assert body["seed"] == 7
    assert body["presence_penalty"] == 0.1
    assert body["frequency_penalty"] == -0.1
    assert body["reasoning_effort"] == "low"
    assert body["parallel_tool_calls"] is True


def test_zero_is_a_value_and_not_absent() -> None:
    assert body_of(Prompt((ASK,), options=Options(temperature=0.0, seed=0)))["temperature"] == 0


def test_limit_of_output_has_the_name_that_the_deployment_knows() -> None:
    endpoint = replace(ENDPOINT, output_limit_field="max_completion_tokens")
    body = body_of(Prompt((ASK,), options=Options(max_output_tokens=5)), endpoint)
    assert body["max_completion_tokens"] == 5
    assert "max_tokens" not in body


def test_images_go_by_address_and_by_bytes() -> None:
    message = Message(
        Role.USER,
        (
            "look",
            Image(url="https://example.com/a.png"),
            Image(data=b"abc", media_type="image/png"),
        ),
    )
    assert body_of(Prompt((message,)))["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,YWJj"}},
            ],
        }
    ]


def test_calls_and_their_results_stand_in_the_conversation() -> None:
    call = ToolCall("c1", "math.add", '{"a":1}')
    messages = (
        ASK,
        Message(Role.ASSISTANT, (), (call,)),
        Message(Role.TOOL, ("2",), tool_call_id="c1"),
    )
    body = body_of(Prompt(messages, (ToolDefinition("math.add"),)))
    sent = body["messages"]
    assert isinstance(sent, list)
    assert sent[1] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "c1",
                "type": "function",
                "function": {"name": "math_add", "arguments": '{"a":1}'},
            }
        ],
    }
    assert sent[2] == {"role": "tool", "content": "2", "tool_call_id": "c1"}


@pytest.mark.parametrize(
    ("choice", "name", "expected"),
    [
        (ToolChoice.AUTO, "", None),
        (ToolChoice.NONE, "", "none"),
        (ToolChoice.REQUIRED, "", "required"),
        (ToolChoice.REQUIRED, "a.b", {"type": "function", "function": {"name": "a_b"}}),
    ],
)
def test_tool_choice(choice: ToolChoice, name: str, expected: object) -> None:
    prompt = Prompt((ASK,), (ToolDefinition("a.b"),), choice, name)
    assert body_of(prompt).get("tool_choice") == expected


def test_names_that_openai_would_merge_stay_apart() -> None:
    names = ToolNames([ToolDefinition("a.b"), ToolDefinition("a_b"), ToolDefinition("a-b")])
    encoded = [names.encode(name) for name in ("a.b", "a_b", "a-b")]
    assert len(set(encoded)) == 3
    assert [names.decode(name) for name in encoded] == ["a.b", "a_b", "a-b"]


def test_forms_of_output() -> None:
    json_mode = replace(Prompt((ASK,)), output_format=OutputFormat.JSON_OBJECT)
    assert body_of(json_mode)["response_format"] == {"type": "json_object"}
    schema: JsonObject = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    with_schema = Prompt((ASK,), output_format=OutputFormat.JSON_SCHEMA, output_schema=schema)
    assert body_of(with_schema)["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "output", "schema": schema, "strict": True},
    }


def test_schema_that_strict_mode_would_refuse_is_not_sent_as_strict() -> None:
    loose = Prompt((ASK,), output_format=OutputFormat.JSON_SCHEMA, output_schema={"type": "object"})
    sent = body_of(loose)["response_format"]
    assert isinstance(sent, dict)
    assert sent["json_schema"]["strict"] is False
