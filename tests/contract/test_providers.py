"""Every kind of provider through the same door, in all arrangements."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import openai
import pytest

from meshwright.model_router.v1 import (
    deployment_pb2,
    model_service_pb2,
    routing_service_pb2,
)
from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceStub
from meshwright.model_router.v1.routing_service_pb2_grpc import RoutingServiceStub
from meshwright_common.ids import new_id
from meshwright_credentials import loopback_channel_credentials
from tests.asking import LANGCHAIN_ANSWER
from tests.platform_process import Platform
from tests.tenants import new_tenant

KINDS = ("sim", "azure", "anthropic")
WEATHER: openai.types.chat.ChatCompletionToolUnionParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
ASK_WEATHER = "sim-tool:weather-args:" + b'{"city": "Ulm"}'.hex()


@pytest.fixture(scope="module")
def client(platform: Platform) -> Iterator[openai.OpenAI]:
    """The official client with a key of a tenant of its own."""
    key = new_tenant(platform).api_key
    with openai.OpenAI(base_url=f"{platform.url}/v1", api_key=key, max_retries=0) as made:
        yield made


def model_of(kind: str) -> str:
    """Return a name that nobody has failed with: each has a breaker of its own."""
    return f"{kind}-{new_id()}"


def said(text: str) -> list[openai.types.chat.ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


@pytest.mark.promise("PV-01")
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_providers_look_the_same_from_outside(client: openai.OpenAI, kind: str) -> None:
    text = "Grüße aus Ulm"
    asked = f"sim-cached3-say:{text.encode().hex()}"
    done = client.chat.completions.create(model=model_of(kind), messages=said(asked))
    assert done.choices[0].message.content == text
    assert done.choices[0].finish_reason == "stop"
    assert done.usage is not None
    assert done.usage.completion_tokens == 3
    assert done.usage.prompt_tokens_details is not None
    assert done.usage.prompt_tokens_details.cached_tokens == 3

    chunks = list(
        client.chat.completions.create(
            model=model_of(kind),
            messages=said("sim-n20-tps200-think2"),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert len("".join(delta.content or "" for delta in deltas).split()) == 20
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens >= 20


@pytest.mark.promise("PV-01")
@pytest.mark.parametrize("kind", KINDS)
def test_limit_of_the_client_ends_the_answer(client: openai.OpenAI, kind: str) -> None:
    done = client.chat.completions.create(
        model=model_of(kind), messages=said("sim-n50"), max_tokens=5
    )
    assert done.choices[0].finish_reason == "length"
    assert len((done.choices[0].message.content or "").split()) <= 5


@pytest.mark.promise("PV-02")
@pytest.mark.parametrize("kind", KINDS)
def test_tools_are_called_and_answered(client: openai.OpenAI, kind: str) -> None:
    first = client.chat.completions.create(
        model=model_of(kind), messages=said(ASK_WEATHER), tools=[WEATHER]
    )
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    assert message.tool_calls
    call = message.tool_calls[0]
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("weather", '{"city": "Ulm"}')
    answered = [
        *said(ASK_WEATHER),
        openai.types.chat.ChatCompletionAssistantMessageParam(
            role="assistant",
            tool_calls=[
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": "weather", "arguments": call.function.arguments},
                }
            ],
        ),
        openai.types.chat.ChatCompletionToolMessageParam(
            role="tool", tool_call_id=call.id, content="sunny"
        ),
    ]
    second = client.chat.completions.create(
        model=model_of(kind), messages=answered, tools=[WEATHER]
    )
    assert second.choices[0].finish_reason == "stop"
    assert second.choices[0].message.content


@pytest.mark.promise("PV-03")
def test_model_of_langchain_answers_like_any_other(client: openai.OpenAI) -> None:
    asked = said("Hello")
    done = client.chat.completions.create(model="langchain-fake", messages=asked)
    assert done.choices[0].message.content == LANGCHAIN_ANSWER
    assert done.usage is not None
    assert done.usage.completion_tokens > 0  # counted by the platform: the fake tells none
    stream = client.chat.completions.create(model="langchain-fake", messages=asked, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert "".join(pieces) == LANGCHAIN_ANSWER
    assert "langchain-fake" in {model.id for model in client.models.list()}


@pytest.mark.promise("PV-04")
def test_tenant_makes_no_deployment_of_langchain(platform: Platform) -> None:
    credentials = loopback_channel_credentials(platform.url, new_tenant(platform).api_key)
    deployment = deployment_pb2.Deployment(name="mine", model="mine", provider="langchain")
    request = routing_service_pb2.CreateDeploymentRequest(deployment=deployment)
    with (
        grpc.secure_channel(platform.grpc["model-router"], credentials) as channel,
        pytest.raises(grpc.RpcError) as raised,
    ):
        RoutingServiceStub(channel).CreateDeployment(request)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "deployment.provider" in str(raised.value.details())


@pytest.mark.promise("PV-05")
@pytest.mark.parametrize("prefix", ["builtin", "rerank"])
def test_documents_are_ranked(platform: Platform, prefix: str) -> None:
    model = "builtin-rerank" if prefix == "builtin" else "rerank-model"
    request = model_service_pb2.RerankRequest(
        model=model, query="red apple", documents=["blue sky", "a red apple", "apple pie"]
    )
    credentials = loopback_channel_credentials(platform.url, new_tenant(platform).api_key)
    with grpc.secure_channel(platform.grpc["model-router"], credentials) as channel:
        answer = ModelServiceStub(channel).Rerank(request)
    assert [result.index for result in answer.results] == [1, 2, 0]
    assert answer.model == model
    assert answer.usage.prompt_tokens > 0


@pytest.mark.promise("PV-05")
@pytest.mark.parametrize(
    ("model", "bad"),
    [("builtin-moderation", "I want to kill myself"), ("moderate-model", "forbidden words")],
)
def test_texts_are_judged(platform: Platform, model: str, bad: str) -> None:
    request = model_service_pb2.ModerateRequest(model=model, texts=["a nice day", bad])
    credentials = loopback_channel_credentials(platform.url, new_tenant(platform).api_key)
    with grpc.secure_channel(platform.grpc["model-router"], credentials) as channel:
        answer = ModelServiceStub(channel).Moderate(request)
    assert [result.flagged for result in answer.results] == [False, True]


@pytest.mark.promise("PV-06")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dialect", ["crlf", "bytes1", "gzip"])
def test_unusual_streams_are_read(client: openai.OpenAI, kind: str, dialect: str) -> None:
    done = client.chat.completions.create(
        model=model_of(kind), messages=said(f"sim-n3-sse:{dialect}")
    )
    assert len((done.choices[0].message.content or "").split()) == 3


@pytest.mark.promise("PV-06")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("sim-n20-tps500-truncate5", "provider_truncated"),
        ("sim-n20-tps500-nodone5", "provider_truncated"),
        ("sim-n20-tps500-fault5", "provider_unavailable"),
        ("sim-n3-sse:badjson", "provider_protocol"),
    ],
)
def test_broken_streams_end_in_a_typed_error(
    client: openai.OpenAI, kind: str, asked: str, code: str
) -> None:
    with pytest.raises(openai.APIError) as raised:
        for _ in client.chat.completions.create(
            model=model_of(kind), messages=said(asked), stream=True
        ):
            pass
    assert str(raised.value.code).lower() == code


@pytest.mark.promise("PV-07")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lie", ["missing", "negative", "absurd", "text"])
def test_lies_about_usage_are_replaced(client: openai.OpenAI, kind: str, lie: str) -> None:
    done = client.chat.completions.create(
        model=model_of(kind), messages=said(f"sim-n12-usage:{lie}")
    )
    assert done.usage is not None
    assert 0 < done.usage.completion_tokens < 100
    assert 0 < done.usage.prompt_tokens < 100


@pytest.mark.promise("PV-07")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ("sim-err400", 400, "provider_rejected"),
        ("sim-err401", 502, "provider_credentials"),
        ("sim-err429-retryafter60", 429, "rate_limit_exceeded"),
    ],
)
def test_failures_tell_their_reason(
    client: openai.OpenAI, kind: str, asked: str, status: int, code: str
) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(model=model_of(kind), messages=said(asked))
    assert (raised.value.status_code, str(raised.value.code).lower()) == (status, code)
