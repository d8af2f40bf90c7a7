"""OpenAI-compatible embeddings against the simulated provider, and against one that lies."""

import json
import math
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from bench.simulator_state import Simulator
from meshwright_common.errors import ServiceError
from meshwright_model_router.domain.ports import Vectors
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.http import HttpClient, open_session
from meshwright_model_router.providers.openai_embeddings import OpenAiEmbeddings


@pytest_asyncio.fixture
async def session() -> AsyncIterator[HttpClient]:
    async with open_session(100) as opened:
        yield opened


async def embed(
    session: HttpClient,
    base_url: str,
    texts: Sequence[str],
    *,
    expected: int = 256,
    dimensions: int = 0,
    model: str = "sim-dim256",
) -> Vectors:
    embeddings = OpenAiEmbeddings(session, Endpoint(deployment="m", base_url=base_url), expected)
    return await embeddings.embed(model, texts, dimensions=dimensions, seconds_left=None)


@pytest.mark.asyncio
async def test_texts_become_vectors_in_their_order(
    session: HttpClient, provider: Simulator
) -> None:
    one = await embed(session, provider.base_url, ["red apple"])
    both = await embed(session, provider.base_url, ["blue sky", "red apple"])
    assert both.values[1] == pytest.approx(one.values[0])
    assert [len(vector) for vector in both.values] == [256, 256]
    assert math.hypot(*both.values[0]) == pytest.approx(1.0, abs=1e-3)
    assert both.tokens > 0


@pytest.mark.asyncio
async def test_shorter_vectors_are_asked_for(session: HttpClient, provider: Simulator) -> None:
    vectors = await embed(session, provider.base_url, ["a"], dimensions=64)
    assert len(vectors.values[0]) == 64
    assert json.loads(provider.requests[-1].body)["dimensions"] == 64


@pytest.mark.asyncio
async def test_longer_vectors_than_the_model_has_are_refused(
    session: HttpClient, provider: Simulator
) -> None:
    with pytest.raises(ServiceError) as raised:
        await embed(session, provider.base_url, ["a"], dimensions=512)
    assert raised.value.field_violations[0].field == "dimensions"


@pytest.mark.asyncio
async def test_length_that_the_settings_do_not_expect_is_named(
    session: HttpClient, provider: Simulator
) -> None:
    with pytest.raises(ServiceError) as raised:
        await embed(session, provider.base_url, ["a"], expected=128)
    assert raised.value.reason == "PROVIDER_PROTOCOL"
    assert "embedding_dimensions" in raised.value.message


@pytest.mark.asyncio
async def test_error_status_becomes_its_reason(session: HttpClient, provider: Simulator) -> None:
    with pytest.raises(ServiceError) as raised:
        await embed(session, provider.base_url, ["a"], model="sim-err401")
    assert raised.value.reason == "PROVIDER_CREDENTIALS"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{}",
        b'{"data":[]}',
        b'{"data":[{"index":0,"embedding":[0,0,0]}]}',
        b'{"data":[{"index":1,"embedding":[1,0,0]}]}',
        b'{"data":[{"index":0,"embedding":[1,0,0]},{"index":0,"embedding":[1,0,0]}]}',
        b'{"data":[{"index":0,"embedding":["a",0,0]}]}',
        b'{"data":[{"index":0,"embedding":[1e400,0,0]}]}',
    ],
)
async def test_answer_that_is_no_vector_breaks_the_protocol(
    session: HttpClient, body: bytes
) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    application = web.Application()
    application.router.add_post("/v1/embeddings", answer)
    async with TestServer(application) as server:
        with pytest.raises(ServiceError) as raised:
            await embed(session, str(server.make_url("/v1")), ["a"], expected=3)
    assert raised.value.reason == "PROVIDER_PROTOCOL"


@pytest.mark.asyncio
async def test_vectors_are_brought_to_unit_length(session: HttpClient) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.json_response({"data": [{"index": 0, "embedding": [3.0, 4.0]}]})

    application = web.Application()
    application.router.add_post("/v1/embeddings", answer)
    async with TestServer(application) as server:
        vectors = await embed(session, str(server.make_url("/v1")), ["a"], expected=2)
    assert vectors.values[0] == pytest.approx([0.6, 0.8])
    assert vectors.tokens == 0
