"""The official OpenAI client works unchanged, and the wire is exactly OpenAI's."""

import base64
from array import array
from collections.abc import AsyncIterator

import openai
import orjson
import pytest
import pytest_asyncio
from openai.types.chat import ChatCompletionToolParam

from meshwright.model_router.v1 import generation_pb2
from meshwright.types.v1 import message_pb2
from meshwright_common.errors import InvalidArgument, NotFound, ResourceExhausted, Unavailable
from meshwright_gateway.wire.values import object_from
from services.gateway.tests.platform import Platform

pytestmark = pytest.mark.asyncio

WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tell the weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "minLength": 1}},
            "required": ["city"],
        },
        "strict": True,
    },
}
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest_asyncio.fixture
async def client(platform: Platform) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's own client, pointed at the gateway."""
    async with openai.AsyncOpenAI(
        base_url=f"{platform.url}/v1", api_key=platform.key, max_retries=0
    ) as client:
        yield client


async def test_a_completion_in_one_piece(client: openai.AsyncOpenAI) -> None:
    completion = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hi"}]
    )

    (choice,) = completion.choices
    assert choice.message.content == "Hello \u2028 world"
    assert (choice.finish_reason, choice.message.tool_calls) == ("stop", None)
    assert completion.model == "m-2026"
    assert completion.usage is not None
    assert completion.usage.total_tokens == 12
    assert completion.usage.prompt_tokens_details is not None
    assert completion.usage.prompt_tokens_details.cached_tokens == 2


async def test_a_completion_as_a_stream(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        stream_options={"include_usage": True},
    )

    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "Hello \u2028 world"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5
    assert len({chunk.id for chunk in chunks}) == 1


async def test_tools_are_called_and_answered(
    client: openai.AsyncOpenAI, platform: Platform
) -> None:
    first = await client.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": "weather in Bonn?"}],
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
    )
    (choice,) = first.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert orjson.loads(call.function.arguments) == {"city": "Bonn"}

    second = await client.chat.completions.create(
        model="m",
        messages=[
            {"role": "user", "content": "weather in Bonn?"},
            choice.message.to_dict(),  # type: ignore[list-item] # what the client's guide does
            {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
        ],
        tools=[WEATHER],
    )

    assert second.choices[0].message.content == "Hello \u2028 world"
    asked, answered = platform.peers.models.requests
    assert asked.tool_choice == generation_pb2.TOOL_CHOICE_REQUIRED
    assert asked.tool_choice_name == "get_weather"
    assert object_from(asked.tools[0].parameters) == WEATHER["function"]["parameters"]
    assert [message.role for message in answered.messages] == [
        message_pb2.ROLE_USER,
        message_pb2.ROLE_ASSISTANT,
        message_pb2.ROLE_TOOL,
    ]
    assert answered.messages[1].tool_calls[0].id == call.id == answered.messages[2].tool_call_id


async def test_tool_calls_as_a_stream(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "?"}], tools=[WEATHER], stream=True
    )

    name = arguments = ""
    finish = None
    async for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.function is not None
            name += call.function.name or ""
            arguments += call.function.arguments or ""
        finish = chunk.choices[0].finish_reason or finish
    assert (name, orjson.loads(arguments), finish) == (
        "get_weather",
        {"city": "Bonn"},
        "tool_calls",
    )


async def test_the_wire_of_a_stream_is_exact(platform: Platform) -> None:
    """E1: chunks, usage null on each when asked for, [DONE], no event names, no ids."""
    answer = await platform.post(
        "/v1/chat/completions",
        {**ASK, "stream": True, "stream_options": {"include_usage": True}},
    )

    assert int(answer.headers["openai-processing-ms"]) >= 0
    *blocks, rest = (await answer.text()).split("\n\n")
    assert rest == ""
    assert blocks[-1] == "data: [DONE]"
    chunks = [orjson.loads(block.removeprefix("data: ")) for block in blocks[:-1]]
    assert all(block.startswith("data: {") for block in blocks[:-1])
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["usage"]["prompt_tokens"] == 7
    assert all("finish_reason" in chunk["choices"][0] for chunk in chunks[:-1])


async def test_every_option_reaches_the_model_service(platform: Platform) -> None:
    picture = {"url": "data:image/png;base64,iVBORw==", "detail": "low"}
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    body = {
        "model": "m",
        "messages": [
            {"role": "developer", "content": "be brief"},
            {
                "role": "user",
                "name": "ann",
                "content": [
                    {"type": "text", "text": "what is this?"},
                    {"type": "image_url", "image_url": {"url": "https://e.org/a.png"}},
                    {"type": "image_url", "image_url": picture},
                ],
            },
        ],
        "temperature": 0.5,
        "top_p": 0.9,
        "max_completion_tokens": 77,
        "stop": ["END", "\n"],
        "seed": 42,
        "presence_penalty": 1,
        "frequency_penalty": -1,
        "reasoning_effort": "low",
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
    }
    harmless = {
        "user": "u",
        "store": False,
        "metadata": {"a": "b"},
        "service_tier": "auto",
        "logprobs": False,
        "prompt_cache_key": "k",
        "n": 1,
        "tools": None,
    }

    answer = await platform.post("/v1/chat/completions", {**body, **harmless})

    assert answer.status == 200
    (request,) = platform.peers.models.requests
    options = request.options
    assert (options.temperature, options.top_p, options.max_output_tokens) == (0.5, 0.9, 77)
    assert list(options.stop_sequences) == ["END", "\n"]
    assert (options.seed, options.presence_penalty, options.frequency_penalty) == (42, 1, -1)
    assert (options.reasoning_effort, options.parallel_tool_calls) == ("low", False)
    assert request.output_format == generation_pb2.OUTPUT_FORMAT_JSON_SCHEMA
    assert object_from(request.output_schema) == schema
    system, person = request.messages
    assert (system.role, system.parts[0].text) == (message_pb2.ROLE_SYSTEM, "be brief")
    assert person.name == "ann"
    assert person.parts[1].image.url == "https://e.org/a.png"
    assert person.parts[2].image.data == base64.b64decode("iVBORw==")
    assert person.parts[2].image.media_type == "image/png"


async def test_embeddings_as_floats_and_as_base64(client: openai.AsyncOpenAI) -> None:
    as_floats = await client.embeddings.create(
        model="e", input=["a", "bcd"], encoding_format="float"
    )
    by_default = await client.embeddings.create(model="e", input="bcd")

    assert [item.embedding for item in as_floats.data] == [[1.0, 0.5, -0.25], [3.0, 0.5, -0.25]]
    assert [item.index for item in as_floats.data] == [0, 1]
    assert as_floats.usage.prompt_tokens == 2
    assert by_default.data[0].embedding == [3.0, 0.5, -0.25]


async def test_base64_is_little_endian_floats(platform: Platform) -> None:
    answer = await platform.post(
        "/v1/embeddings", {"model": "e", "input": "abc", "encoding_format": "base64"}
    )

    data = (await answer.json())["data"][0]["embedding"]
    assert array("f", base64.b64decode(data)).tolist() == [3.0, 0.5, -0.25]


async def test_many_texts_become_several_calls_and_one_answer(platform: Platform) -> None:
    texts = [f"text {number}" for number in range(600)]

    answer = await platform.post("/v1/embeddings", {"model": "e", "input": texts})

    content = await answer.json()
    assert [item["index"] for item in content["data"]] == list(range(600))
    assert platform.peers.models.embedded == [256, 256, 88]
    assert content["usage"]["prompt_tokens"] == 600


async def test_models_are_listed_and_found(client: openai.AsyncOpenAI) -> None:
    listed = await client.models.list()
    found = await client.models.retrieve("offline/small")

    assert [model.id for model in listed.data] == ["offline/small"]
    assert (found.id, found.owned_by, found.object) == ("offline/small", "offline", "model")
    with pytest.raises(openai.NotFoundError) as refused:
        await client.models.retrieve("absent")
    assert refused.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({**ASK, "nonsense": 1}, "nonsense"),
        ({**ASK, "n": 2}, "n"),
        ({**ASK, "temperature": 3}, "temperature"),
        ({**ASK, "temperature": "hot"}, "temperature"),
        ({**ASK, "max_tokens": 10**9}, "max_tokens"),
        ({**ASK, "stop": ["a"] * 5}, "stop"),
        ({**ASK, "messages": []}, "messages"),
        ({**ASK, "messages": [{"role": "god", "content": "x"}]}, "messages[0]"),
        ({**ASK, "messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({**ASK, "messages": [{"role": "user", "content": "x", "z": 1}]}, "messages[0].z"),
        ({**ASK, "messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({**ASK, "messages": [{"role": "assistant"}]}, "messages[0].content"),
        (
            {
                **ASK,
                "messages": [
                    {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}
                ],
            },
            "messages[0].content[0]",
        ),
        (
            {
                **ASK,
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image_url", "image_url": {"url": "http://e.org/a.png"}}
                        ],
                    }
                ],
            },
            "messages[0].content[0].image_url.url",
        ),
        (
            {**ASK, "tools": [{"type": "function", "function": {"name": "a b"}}]},
            "tools[0].function.name",
        ),
        ({**ASK, "tool_choice": "maybe"}, "tool_choice"),
        ({**ASK, "functions": []}, "functions"),
        ({"messages": ASK["messages"]}, "model"),
    ],
)
async def test_a_wrong_field_is_named_in_openai_s_shape(
    platform: Platform, body: dict[str, object], param: str
) -> None:
    answer = await platform.post("/v1/chat/completions", body)

    error = (await answer.json())["error"]
    assert answer.status == 400
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert platform.peers.models.requests == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "e", "input": []}, "input"),
        ({"model": "e", "input": ""}, "input"),
        ({"model": "e", "input": ["a", ""]}, "input[1]"),
        ({"model": "e", "input": [1, 2, 3]}, "input[0]"),
        ({"model": "e", "input": "a", "what": 1}, "what"),
        ({"model": "e", "input": "x" * (32 * 1024 + 1)}, "input"),
        ({"model": "e", "input": ["x"] * 2049}, "input"),
    ],
)
async def test_wrong_embedding_requests_are_refused(
    platform: Platform, body: dict[str, object], param: str
) -> None:
    answer = await platform.post("/v1/embeddings", body)

    assert answer.status == 400
    assert (await answer.json())["error"]["param"] == param


async def test_errors_of_services_have_openai_s_shape(
    client: openai.AsyncOpenAI, platform: Platform
) -> None:
    models = platform.peers.models
    models.error = NotFound("no deployment serves m")
    models.error.reason = "MODEL_NOT_FOUND"
    with pytest.raises(openai.NotFoundError) as absent:
        await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
    models.error = ResourceExhausted("slow down", retry_after_seconds=1.5)
    with pytest.raises(openai.RateLimitError) as limited:
        await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
    models.error = InvalidArgument("too long")
    models.error.reason = "CONTEXT_LENGTH_EXCEEDED"
    with pytest.raises(openai.BadRequestError) as long:
        await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
    models.error = Unavailable("the provider is away")
    with pytest.raises(openai.InternalServerError) as away:
        await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])

    assert absent.value.code == "model_not_found"
    assert limited.value.response.headers["retry-after-ms"] == "1500"
    assert limited.value.code == "rate_limit_exceeded"
    assert long.value.code == "context_length_exceeded"
    assert away.value.status_code == 503
    assert away.value.response.headers["x-should-retry"] == "true"


async def test_a_wrong_key_is_openai_s_authentication_error(platform: Platform) -> None:
    async with openai.AsyncOpenAI(base_url=f"{platform.url}/v1", api_key="sk-wrong") as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.models.list()

    assert refused.value.code == "invalid_api_key"


async def test_an_error_within_the_stream_reaches_the_client(
    client: openai.AsyncOpenAI, platform: Platform
) -> None:
    """What was said stays, the error comes as the last chunk, and there is no [DONE]."""
    models = platform.peers.models
    models.error, models.fails_after = Unavailable("the provider is away"), 2
    stream = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "x"}], stream=True
    )

    said = ""

    async def read() -> None:
        nonlocal said
        async for chunk in stream:
            said += chunk.choices[0].delta.content or ""

    with pytest.raises(openai.APIError, match="the provider is away"):
        await read()

    assert said == "Hello \u2028 wor"
