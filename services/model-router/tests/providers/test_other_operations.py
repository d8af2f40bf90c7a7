"""Rerank, moderation and vectors over HTTP: forms of several vendors, and answers that lie."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bench.embeddings import embed
from bench.simulator_state import Simulator
from meshwright_common.errors import ServiceError
from meshwright_model_router.domain.ports_other import Ranked
from meshwright_model_router.providers.builtin_moderation import judge
from meshwright_model_router.providers.endpoint import EmbeddingEncoding, Endpoint
from meshwright_model_router.providers.http import open_session
from meshwright_model_router.providers.moderation import OpenAiModeration
from meshwright_model_router.providers.openai_embeddings import OpenAiEmbeddings
from meshwright_model_router.providers.rerank import HttpRerank

DOCUMENTS = ("red apple", "blue sky", "apple pie")
COHERE = {
    "id": "1",
    "results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.2}],
    "meta": {"billed_units": {"search_units": 1}, "tokens": {"input_tokens": 17}},
}
JINA = {
    "model": "jina-reranker",
    "usage": {"total_tokens": 23},
    "results": [
        {"index": 0, "relevance_score": 0.2, "document": {"text": "a"}},
        {"index": 1, "relevance_score": 0.9, "document": {"text": "b"}},
    ],
}

NO_COUNT = {"results": COHERE["results"]}


@asynccontextmanager
async def answering(answer: object) -> AsyncIterator[Endpoint]:
    """A server that gives every request the same answer."""
    body = json.dumps(answer).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        (length,) = re.findall(rb"content-length: (\d+)", asked.lower())
        await reader.readexactly(int(length))
        writer.write(head % len(body) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield Endpoint("r", f"http://127.0.0.1:{port}/v1")


@pytest.mark.asyncio
@pytest.mark.parametrize(("answer", "tokens"), [(COHERE, 17), (JINA, 23), (NO_COUNT, 0)])
async def test_forms_of_several_vendors_are_read(answer: object, tokens: int) -> None:
    async with answering(answer) as endpoint, open_session(10) as client:
        ranking = await HttpRerank(client, endpoint).rerank(
            "m", "apple", DOCUMENTS, top_n=0, seconds_left=None
        )
    assert ranking.results == [Ranked(1, 0.9), Ranked(0, 0.2)]
    assert ranking.tokens == tokens


@pytest.mark.asyncio
async def test_request_is_what_the_vendors_share(provider: Simulator) -> None:
    async with open_session(10) as client:
        ranking = await HttpRerank(client, Endpoint("r", provider.base_url)).rerank(
            "m", "apple", DOCUMENTS, top_n=2, seconds_left=5
        )
    assert len(ranking.results) == 2
    assert {one.index for one in ranking.results} == {0, 2}
    assert ranking.tokens > 0
    request = provider.requests[-1]
    assert request.path == "/v1/rerank"
    assert json.loads(request.body) == {
        "model": "m",
        "query": "apple",
        "documents": list(DOCUMENTS),
        "top_n": 2,
    }


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "results",
    [
        [{"index": 3, "relevance_score": 0.5}],
        [{"index": -1, "relevance_score": 0.5}],
        [{"index": 0, "relevance_score": 0.5}, {"index": 0, "relevance_score": 0.4}],
        [{"index": 0, "relevance_score": float("nan")}],
        [{"index": "x", "relevance_score": 0.5}],
        "none",
        None,
    ],
)
async def test_ranking_that_cannot_be_is_an_error(results: object) -> None:
    """F-57."""
    async with answering({"results": results}) as endpoint, open_session(10) as client:
        provider = HttpRerank(client, endpoint)
        with pytest.raises(ServiceError) as raised:
            await provider.rerank("m", "q", DOCUMENTS, top_n=0, seconds_left=None)
    assert raised.value.reason == "PROVIDER_PROTOCOL"


@pytest.mark.asyncio
async def test_scores_of_moderation_stay_between_0_and_1() -> None:
    result = {"flagged": True, "category_scores": {"a": 1.5, "b": -1, "c": 0.25}}
    async with answering({"results": [result]}) as endpoint, open_session(10) as client:
        verdicts = await OpenAiModeration(client, endpoint).moderate("m", ["x"], seconds_left=None)
    assert verdicts.values[0].scores == {"a": 1.0, "b": 0.0, "c": 0.25}


@pytest.mark.asyncio
@pytest.mark.parametrize("results", [[], [{"flagged": "yes", "category_scores": {}}], 5])
async def test_verdicts_that_cannot_be_are_an_error(results: object) -> None:
    async with answering({"results": results}) as endpoint, open_session(10) as client:
        provider = OpenAiModeration(client, endpoint)
        with pytest.raises(ServiceError) as raised:
            await provider.moderate("m", ["x"], seconds_left=None)
    assert raised.value.reason == "PROVIDER_PROTOCOL"


@pytest.mark.asyncio
@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_vectors_travel_as_asked(provider: Simulator, encoding: EmbeddingEncoding) -> None:
    endpoint = Endpoint("e", provider.base_url, embedding_encoding=encoding)
    async with open_session(10) as client:
        embedder = OpenAiEmbeddings(client, endpoint, 256)
        vectors = await embedder.embed("sim", ["red apple"], dimensions=0, seconds_left=None)
    assert json.loads(provider.requests[-1].body)["encoding_format"] == encoding
    assert list(vectors.values[0]) == pytest.approx(list(embed("red apple", 256)))


@pytest.mark.asyncio
@pytest.mark.parametrize("vector", ["no base64!", "AAA=", "", [float("nan")] * 2])
async def test_vector_that_is_none_is_an_error(vector: object) -> None:
    data = [{"index": 0, "embedding": vector}]
    async with answering({"data": data}) as endpoint, open_session(10) as client:
        embedder = OpenAiEmbeddings(client, endpoint, 2)
        with pytest.raises(ServiceError) as raised:
            await embedder.embed("m", ["x"], dimensions=0, seconds_left=None)
    assert raised.value.reason == "PROVIDER_PROTOCOL"


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("I want to KILL MYSELF", "self-harm"),
        ("how to make a bomb", "illicit"),
        ("murder, massacre and torture", "violence"),  # three weak words together
        ("他说要杀了你", "violence"),
    ],
)
def test_built_in_moderation_flags(text: str, category: str) -> None:
    verdict = judge(text)
    assert verdict.flagged
    assert max(verdict.scores, key=lambda name: verdict.scores[name]) == category


@pytest.mark.parametrize(
    "text", ["kill the process with signal 9", "a skilled killer whale", "今天天气很好", ""]
)
def test_built_in_moderation_leaves_alone(text: str) -> None:
    assert not judge(text).flagged
