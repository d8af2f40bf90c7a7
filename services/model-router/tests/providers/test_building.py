"""From a deployment to its provider, and Azure's addresses."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
import pytest_asyncio
from openai import AsyncAzureOpenAI

from bench.simulator_state import Simulator
from meshwright_common.errors import InvalidArgument, ServiceError
from meshwright_model_router.domain.catalogue import Deployment
from meshwright_model_router.domain.conversation import Message, Options, Prompt, Role
from meshwright_model_router.domain.output import Ended, FinishReason, Piece, ProviderOutput
from meshwright_model_router.providers.anthropic_chat import AnthropicChat
from meshwright_model_router.providers.building import (
    build_chat,
    build_embeddings,
    build_moderation,
    build_rerank,
    endpoint_for,
)
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.factory import Factory
from meshwright_model_router.providers.http import HttpClient, open_session
from meshwright_model_router.providers.langchain_chat import LangChainChat
from meshwright_model_router.providers.langchain_embeddings import LangChainEmbeddings
from meshwright_model_router.providers.openai_chat import OpenAiChat

KEY = "azure-simulated-000000"
FAKE_CHAT = Factory("langchain_core.language_models:FakeListChatModel", {"responses": ["hi"]})
FAKE_VECTORS = Factory("langchain_core.embeddings:DeterministicFakeEmbedding", {"size": 8})


@pytest_asyncio.fixture
async def client() -> AsyncIterator[HttpClient]:
    async with open_session(10) as opened:
        yield opened


def deployment(provider: str, embedding_dimensions: int = 0) -> Deployment:
    return Deployment("d", "d", provider, embedding_dimensions=embedding_dimensions)


def endpoint(kind: str, base_url: str = "", api_version: str = "") -> Endpoint:
    given = Endpoint("d", base_url, KEY, api_version=api_version)
    return endpoint_for(kind, given)


@pytest.mark.parametrize(
    ("kind", "base_url", "api_version", "expected"),
    [
        ("openai", "", "", "https://api.openai.com/v1"),
        ("anthropic", "", "", "https://api.anthropic.com/v1"),
        ("openai", "http://host/v1", "", "http://host/v1"),
        ("azure", "https://x.openai.azure.com", "", "https://x.openai.azure.com/openai/v1"),
        ("azure", "https://x.openai.azure.com/openai", "", "https://x.openai.azure.com/openai/v1"),
        ("azure", "https://x.openai.azure.com", "2024-10-21", "https://x.openai.azure.com/openai"),
        ("azure", "https://x.openai.azure.com", "preview", "https://x.openai.azure.com/openai/v1"),
        ("azure", "https://gateway/models/v1", "", "https://gateway/models/v1"),
    ],
)
def test_address_of_a_kind(kind: str, base_url: str, api_version: str, expected: str) -> None:
    assert endpoint(kind, base_url, api_version).base_url == expected


def test_azure_without_an_address_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="base_url"):
        endpoint("azure")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("openai", {"authorization": f"Bearer {KEY}"}),
        ("azure", {"api-key": KEY}),
        ("anthropic", {"x-api-key": KEY, "anthropic-version": "2023-06-01"}),
    ],
)
def test_key_travels_as_the_kind_wants_it(kind: str, expected: dict[str, str]) -> None:
    assert endpoint(kind, "https://host").request_headers == expected


def test_limit_has_the_name_that_the_host_knows() -> None:
    assert endpoint("openai").output_limit_field == "max_completion_tokens"
    assert endpoint("openai", "http://host/v1").output_limit_field == "max_tokens"
    assert endpoint("azure", "https://host").output_limit_field == "max_completion_tokens"
    own = endpoint_for("openai", Endpoint("d", ""), output_limit_field="max_tokens")
    assert own.output_limit_field == "max_tokens"


@pytest.mark.asyncio
async def test_kind_decides_who_speaks(client: HttpClient) -> None:
    at = endpoint("openai", "http://host/v1")
    assert isinstance(build_chat(client, deployment("openai"), at), OpenAiChat)
    assert isinstance(build_chat(client, deployment("azure"), at), OpenAiChat)
    assert isinstance(build_chat(client, deployment("anthropic"), at), AnthropicChat)
    assert isinstance(build_chat(client, deployment("langchain"), at, FAKE_CHAT), LangChainChat)


@pytest.mark.asyncio
async def test_langchain_without_a_factory_is_refused(client: HttpClient) -> None:
    """What a tenant makes never has one: a factory is code of the operator's choice."""
    at = endpoint("langchain")
    with pytest.raises(InvalidArgument, match="operator"):
        build_chat(client, deployment("langchain"), at)
    with pytest.raises(InvalidArgument, match="operator"):
        build_embeddings(client, deployment("langchain"), at)


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["anthropic", "nonsense"])
async def test_kind_that_cannot_is_refused(client: HttpClient, kind: str) -> None:
    at = endpoint("openai", "http://host/v1")
    for build in (build_embeddings, build_rerank, build_moderation):
        with pytest.raises(InvalidArgument, match="provider"):
            build(client, deployment(kind), at)


@pytest.mark.asyncio
async def test_vectors_of_langchain(client: HttpClient) -> None:
    made = deployment("langchain", embedding_dimensions=8)
    embeddings = build_embeddings(client, made, endpoint("langchain"), FAKE_VECTORS)
    assert isinstance(embeddings, LangChainEmbeddings)
    vectors = await embeddings.embed("d", ["a", "b", "a"], dimensions=0, seconds_left=None)
    first, second, third = vectors.values
    assert first == third != second
    assert sum(value * value for value in first) == pytest.approx(1.0)
    wrong = build_embeddings(
        client, deployment("langchain", embedding_dimensions=9), endpoint("langchain"), FAKE_VECTORS
    )
    with pytest.raises(ServiceError, match="embedding_dimensions"):
        await wrong.embed("d", ["a"], dimensions=0, seconds_left=None)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("api_version", "path"),
    [
        ("", "/openai/v1/chat/completions"),
        ("preview", "/openai/v1/chat/completions"),
        ("2024-10-21", "/openai/deployments/sim-n3/chat/completions"),
    ],
)
async def test_azure_streams_with_results_of_its_filter(
    client: HttpClient, provider: Simulator, api_version: str, path: str
) -> None:
    """Its first chunk has no choices; both forms of its addresses."""
    at = endpoint("azure", f"http://127.0.0.1:{provider.port}", api_version)
    chat = build_chat(client, deployment("azure"), at)
    prompt = Prompt((Message(Role.USER, ("hello",)),), options=Options(max_output_tokens=2))
    outputs: list[ProviderOutput] = []
    async with aclosing(chat.stream("sim-n3", prompt, seconds_left=None)) as stream:
        outputs += [output async for output in stream]
    assert sum(len(one.text) for one in outputs if isinstance(one, Piece)) == 20
    ended = outputs[-1]
    assert isinstance(ended, Ended)
    assert ended.finish_reason is FinishReason.LENGTH
    request = provider.requests[-1]
    assert request.path == path
    assert request.headers["api-key"] == KEY
    assert "authorization" not in request.headers
    assert json.loads(request.body)["max_completion_tokens"] == 2


@pytest.mark.asyncio
async def test_simulated_azure_speaks_as_the_official_client_hears(provider: Simulator) -> None:
    """What the test above stands on."""
    async with AsyncAzureOpenAI(
        azure_endpoint=f"http://127.0.0.1:{provider.port}",
        api_version="2024-10-21",
        api_key=KEY,
        max_retries=0,
    ) as official:
        chunks = await official.chat.completions.create(
            model="sim-n3", messages=[{"role": "user", "content": "hello"}], stream=True
        )
        texts = [one.choices[0].delta.content or "" async for one in chunks if one.choices]
    assert len("".join(texts)) == 30
    request = provider.requests[-1]
    assert request.path == "/openai/deployments/sim-n3/chat/completions"
    assert request.headers["api-key"] == KEY
