"""The OpenAI wire under /v1, through the official client as it is, in both arrangements."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest

from tests.asking import eventually, indexed
from tests.platform_process import Platform
from tests.tenants import new_tenant

WEATHER: openai.types.chat.ChatCompletionToolUnionParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
ASK_WEATHER = "sim-tool:weather-args:" + b'{"city": "Ulm"}'.hex()


@pytest.fixture
def api_key(platform: Platform) -> str:
    """A key of a tenant of its own."""
    return new_tenant(platform).api_key


@pytest.fixture
def client(platform: Platform, api_key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{platform.url}/v1", api_key=api_key, max_retries=0) as made:
        yield made


@pytest.mark.promise("OAI-01")
def test_a_completion_has_text_and_usage(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(
        model="sim-n12", messages=[{"role": "user", "content": "Hello"}]
    )
    choice = done.choices[0]
    assert (choice.message.role, choice.finish_reason) == ("assistant", "stop")
    assert len((choice.message.content or "").split()) == 12
    assert done.usage is not None
    assert done.usage.completion_tokens == 12
    assert done.usage.total_tokens == done.usage.prompt_tokens + 12


@pytest.mark.promise("OAI-01")
def test_a_streamed_completion_comes_in_pieces_with_usage_at_the_end(
    client: openai.OpenAI,
) -> None:
    chunks = list(
        client.chat.completions.create(
            model="sim-n30-tps300",
            messages=[{"role": "user", "content": "Hello"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert len("".join(pieces).split()) == 30
    assert len([piece for piece in pieces if piece]) > 5
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 30
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"


@pytest.mark.promise("OAI-02")
@pytest.mark.parametrize("stream", [False, True])
def test_tools_of_the_client_are_called_and_answered(client: openai.OpenAI, stream: bool) -> None:
    messages: list[openai.types.chat.ChatCompletionMessageParam] = [
        {"role": "user", "content": "Is it raining in Ulm?"}
    ]
    name, arguments, call_id = "", "", ""
    if stream:
        for chunk in client.chat.completions.create(
            model=ASK_WEATHER, messages=messages, tools=[WEATHER], stream=True
        ):
            for call in chunk.choices[0].delta.tool_calls or [] if chunk.choices else []:
                call_id = call.id or call_id
                assert call.function is not None
                name += call.function.name or ""
                arguments += call.function.arguments or ""
    else:
        done = client.chat.completions.create(model=ASK_WEATHER, messages=messages, tools=[WEATHER])
        assert done.choices[0].finish_reason == "tool_calls"
        calls = done.choices[0].message.tool_calls or []
        assert [call.type for call in calls] == ["function"]
        assert calls[0].type == "function"
        call_id, name = calls[0].id, calls[0].function.name
        arguments = calls[0].function.arguments
    assert (name, json.loads(arguments)) == ("weather", {"city": "Ulm"})
    messages += [
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": call_id,
                    "type": "function",
                    "function": {"name": name, "arguments": arguments},
                }
            ],
        },
        {"role": "tool", "tool_call_id": call_id, "content": "dry"},
    ]
    answered = client.chat.completions.create(model=ASK_WEATHER, messages=messages, tools=[WEATHER])
    assert answered.choices[0].finish_reason == "stop"


@pytest.mark.promise("OAI-03")
def test_the_built_in_model_answers_without_a_provider(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(
        model="offline", messages=[{"role": "user", "content": "Who are you?"}]
    )
    assert "offline" in (done.choices[0].message.content or "").lower()


@pytest.mark.promise("OAI-04")
def test_embeddings_are_vectors_in_the_order_of_their_texts(client: openai.OpenAI) -> None:
    texts = ["the cat sits on the mat", "猫坐在垫子上", "the cat sits on the mat"]
    made = client.embeddings.create(model="builtin-384", input=texts)
    vectors = [one.embedding for one in made.data]
    assert [one.index for one in made.data] == [0, 1, 2]
    assert {len(vector) for vector in vectors} == {384}
    assert vectors[0] == vectors[2] != vectors[1]
    assert abs(sum(value * value for value in vectors[0]) - 1) < 1e-3
    assert made.usage.prompt_tokens > 0


@pytest.mark.promise("OAI-05")
def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    names = {model.id for model in client.models.list()}
    assert {"offline", "builtin-384"} <= names
    assert client.models.retrieve("offline").id == "offline"
    with pytest.raises(openai.NotFoundError) as refusal:
        client.models.retrieve("no-such-model")
    assert refusal.value.code == "model_not_found"


@pytest.mark.promise("OAI-06")
@pytest.mark.parametrize(
    ("model", "error", "code"),
    [
        ("no-such-model", openai.NotFoundError, "model_not_found"),
        ("sim-err429-retryafter3", openai.RateLimitError, "rate_limit_exceeded"),
        ("sim-err401", openai.InternalServerError, "provider_credentials"),
    ],
)
def test_errors_are_the_exceptions_that_clients_of_openai_know(
    client: openai.OpenAI, model: str, error: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(error) as refusal:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello"}])
    assert refusal.value.code == code
    assert refusal.value.request_id


@pytest.mark.promise("OAI-06")
def test_a_wrong_key_and_a_wrong_parameter_are_told_apart(
    platform: Platform, client: openai.OpenAI
) -> None:
    with (
        openai.OpenAI(base_url=f"{platform.url}/v1", api_key="mw_wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError) as refusal,
    ):
        stranger.models.list()
    assert refusal.value.code == "invalid_api_key"
    with pytest.raises(openai.BadRequestError) as mistake:
        client.chat.completions.create(
            model="offline", messages=[{"role": "user", "content": "Hello"}], temperature=7
        )
    assert mistake.value.param == "temperature"


@pytest.mark.promise("OAI-07")
def test_calls_over_this_wire_are_in_the_usage_ledger(
    platform: Platform, client: openai.OpenAI, api_key: str
) -> None:
    client.chat.completions.create(model="sim-n7", messages=[{"role": "user", "content": "Hi"}])
    with platform.client(api_key) as http:
        indexed(http, "note.txt", b"One text to embed.")

        def tokens() -> int:
            sums = http.get("/api/v1/usage", params={"group_by": "model"}).json()["sums"]
            return sum(one["usage"]["completion_tokens"] for one in sums)

        eventually(lambda: tokens() == 7)
