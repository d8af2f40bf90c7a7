"""Judging and ordering texts: the official client's moderations, and reranking."""

import openai
import pytest
from openai.types import ModerationTextInputParam

from services.gateway.tests.platform import Platform

pytestmark = pytest.mark.asyncio


async def test_the_official_client_reads_the_verdicts(platform: Platform) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{platform.url}/v1", api_key=platform.key, max_retries=0
    ) as client:
        verdicts = await client.moderations.create(input=["a good day", "a bad day"])
        one = await client.moderations.create(
            model="judge-2", input=[ModerationTextInputParam(type="text", text="bad")]
        )

    assert [verdict.flagged for verdict in verdicts.results] == [False, True]
    assert verdicts.results[1].categories.violence is True
    assert verdicts.results[0].category_scores.violence == pytest.approx(0.1)
    assert (one.model, len(one.results), one.id[:5]) == ("judge-2", 1, "modr-")


async def test_documents_come_best_first_with_their_place_in_the_request(
    platform: Platform,
) -> None:
    body = {"query": "tea", "documents": ["coffee", "tea and tea", "tea"], "top_n": 2}

    answer = await (await platform.post("/v1/rerank", body)).json()
    quoted = await (await platform.post("/v1/rerank", {**body, "return_documents": True})).json()

    assert answer["results"] == [
        {"index": 1, "relevance_score": 2.0},
        {"index": 2, "relevance_score": 1.0},
    ]
    assert (answer["model"], answer["usage"]) == ("ranker", {"total_tokens": 3})
    assert quoted["results"][0]["document"] == {"text": "tea and tea"}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/moderations", {}, "input"),
        ("/v1/moderations", {"input": []}, "input"),
        ("/v1/moderations", {"input": ["x"] * 33}, "input"),
        ("/v1/moderations", {"input": "x" * 32_769}, "input"),
        ("/v1/rerank", {"documents": ["x"]}, "query"),
        ("/v1/rerank", {"query": "x", "documents": []}, "documents"),
        ("/v1/rerank", {"query": "x", "documents": ["x"] * 257}, "documents"),
        ("/v1/rerank", {"query": "x", "documents": [""]}, "documents[0]"),
        ("/v1/rerank", {"query": "x", "documents": ["x"], "top_n": 0}, "top_n"),
    ],
)
async def test_wrong_requests_are_refused_by_name(
    platform: Platform, path: str, body: dict[str, object], param: str
) -> None:
    answer = await platform.post(path, body)

    assert answer.status == 400
    assert (await answer.json())["error"]["param"] == param
