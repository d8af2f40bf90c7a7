"""Requests are refused by the field that is wrong."""

from collections.abc import Callable

import pytest
from google.protobuf import struct_pb2

from meshwright.model_router.v1 import generation_pb2, model_service_pb2
from meshwright.types.v1 import message_pb2
from meshwright_common.errors import InvalidArgument
from meshwright_common.ids import new_id
from meshwright_model_router.domain.conversation import Options, Role, ToolChoice
from meshwright_model_router.wire import requests

Request = model_service_pb2.GenerateRequest
Mend = Callable[[Request], object]


def request() -> Request:
    return Request(
        messages=[
            message_pb2.Message(
                role=message_pb2.ROLE_USER, parts=[message_pb2.ContentPart(text="hi")]
            )
        ]
    )


def image(**fields: object) -> message_pb2.ContentPart:
    return message_pb2.ContentPart(image=message_pb2.ImagePart(**fields))  # type: ignore[arg-type]


def tool(name: str, description: str = "") -> message_pb2.ToolDefinition:
    return message_pb2.ToolDefinition(name=name, description=description)


WRONG: dict[str, tuple[str, Mend]] = {
    "no messages": ("messages", lambda r: r.ClearField("messages")),
    "too many messages": ("messages", lambda r: r.messages.extend(list(r.messages) * 500)),
    "no role": ("messages[0].role", lambda r: r.messages[0].ClearField("role")),
    "unknown role": ("messages[0].role", lambda r: setattr(r.messages[0], "role", 99)),
    "no parts": ("messages[0].parts", lambda r: r.messages[0].ClearField("parts")),
    "empty part": ("messages[0].parts[1]", lambda r: r.messages[0].parts.add()),
    "too much text": ("messages", lambda r: r.messages[0].parts.add(text="x" * (1 << 20))),
    "calls of a user": (
        "messages[0].tool_calls",
        lambda r: r.messages[0].tool_calls.add(id="1", name="f"),
    ),
    "call id of a user": (
        "messages[0].tool_call_id",
        lambda r: setattr(r.messages[0], "tool_call_id", "1"),
    ),
    "speaker": ("messages[0].name", lambda r: setattr(r.messages[0], "name", "a b")),
    "image over http": (
        "messages[0].parts[1].image.url",
        lambda r: r.messages[0].parts.append(image(url="http://host/a.png")),
    ),
    "image without type": (
        "messages[0].parts[1].image.media_type",
        lambda r: r.messages[0].parts.append(image(data=b"x")),
    ),
    "image too large": (
        "messages[0].parts[1].image.data",
        lambda r: r.messages[0].parts.append(
            image(data=b"x" * (3 * 1024 * 1024 + 1), media_type="image/png")
        ),
    ),
    "tool name": ("tools[0].name", lambda r: r.tools.append(tool("a b"))),
    "tool twice": ("tools[1].name", lambda r: r.tools.extend([tool("a"), tool("a")])),
    "tool description": (
        "tools[0].description",
        lambda r: r.tools.append(tool("a", "x" * 4097)),
    ),
    "too many tools": ("tools", lambda r: r.tools.extend(tool(f"t{n}") for n in range(129))),
    "unknown choice": ("tool_choice", lambda r: setattr(r, "tool_choice", 99)),
    "required without tools": (
        "tool_choice",
        lambda r: setattr(r, "tool_choice", generation_pb2.TOOL_CHOICE_REQUIRED),
    ),
    "choice of no tool": ("tool_choice_name", lambda r: setattr(r, "tool_choice_name", "f")),
    "unknown format": ("output_format", lambda r: setattr(r, "output_format", 99)),
    "schema missing": (
        "output_schema",
        lambda r: setattr(r, "output_format", generation_pb2.OUTPUT_FORMAT_JSON_SCHEMA),
    ),
    "temperature": ("options.temperature", lambda r: setattr(r.options, "temperature", 2.1)),
    "not a number": ("options.top_p", lambda r: setattr(r.options, "top_p", float("nan"))),
    "no output": (
        "options.max_output_tokens",
        lambda r: setattr(r.options, "max_output_tokens", 0),
    ),
    "penalty": ("options.presence_penalty", lambda r: setattr(r.options, "presence_penalty", -3)),
    "stops": ("options.stop_sequences", lambda r: r.options.stop_sequences.extend("abcde")),
    "empty stop": ("options.stop_sequences", lambda r: r.options.stop_sequences.append("")),
    "effort": ("options.reasoning_effort", lambda r: setattr(r.options, "reasoning_effort", "max")),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_field_is_named(name: str) -> None:
    field, spoil = WRONG[name]
    spoiled = request()
    spoil(spoiled)
    with pytest.raises(InvalidArgument) as raised:
        requests.prompt_from(spoiled)
    assert [violation.field for violation in raised.value.field_violations] == [field]


def test_whole_request_is_taken_over() -> None:
    full = request()
    full.tools.append(tool("search"))
    full.tools[0].parameters.update({"type": "object", "maxProperties": 3})
    full.tool_choice = generation_pb2.TOOL_CHOICE_REQUIRED
    full.tool_choice_name = "search"
    full.options.temperature = 0
    prompt = requests.prompt_from(full)
    assert prompt.messages[0].role is Role.USER
    assert prompt.tools[0].parameters == {"type": "object", "maxProperties": 3}
    assert isinstance(prompt.tools[0].parameters["maxProperties"], int)
    assert prompt.tool_choice is ToolChoice.REQUIRED
    assert prompt.options == Options(temperature=0.0)


def test_plain_values_of_a_struct() -> None:
    struct = struct_pb2.Struct()
    struct.update({"a": [1, 2.5, "x", None, True, {"b": {}}]})
    assert requests.json_object(struct) == {"a": [1, 2.5, "x", None, True, {"b": {}}]}


@pytest.mark.parametrize(
    ("field", "attribution"),
    [
        ("attribution.task_id", {"task_id": "x", "step": 1, "attempt": 1}),
        ("attribution.step", {"task_id": new_id(), "attempt": 1}),
        ("attribution.attempt", {"task_id": new_id(), "step": 1}),
        ("attribution.feature", {"feature": "a b"}),
        ("attribution.session_id", {"session_id": "x" * 65}),
    ],
)
def test_wrong_attribution_is_named(field: str, attribution: dict[str, str | int]) -> None:
    message = model_service_pb2.UsageAttribution(**attribution)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument) as raised:
        requests.attribution_from(message)
    assert raised.value.field_violations[0].field == field


def test_call_without_a_task_gets_an_id_of_its_own() -> None:
    first = requests.attribution_from(model_service_pb2.UsageAttribution())
    second = requests.attribution_from(model_service_pb2.UsageAttribution())
    assert first.task_id != second.task_id
    assert (first.step, first.attempt) == (1, 1)


@pytest.mark.parametrize(
    ("field", "texts", "dimensions"),
    [
        ("texts", [], 0),
        ("texts", ["a"] * 257, 0),
        ("texts[1]", ["a", ""], 0),
        ("texts[0]", ["x" * (32 * 1024 + 1)], 0),
        ("dimensions", ["a"], -1),
    ],
)
def test_wrong_texts_are_named(field: str, texts: list[str], dimensions: int) -> None:
    with pytest.raises(InvalidArgument) as raised:
        requests.texts_from(model_service_pb2.EmbedRequest(texts=texts, dimensions=dimensions))
    assert raised.value.field_violations[0].field == field
