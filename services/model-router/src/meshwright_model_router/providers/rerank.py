"""Rerank over HTTP, in the form that Cohere, Jina, vLLM and others share: POST …/rerank."""

import math
from collections.abc import Sequence
from typing import Final

import msgspec

from meshwright_model_router.domain.ports_other import Ranked, Ranking
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.failures import broken_protocol
from meshwright_model_router.providers.http import HttpClient
from meshwright_model_router.providers.json_answer import post_json

PATH: Final = "rerank"


class _Result(msgspec.Struct):
    index: int
    relevance_score: float


class _Usage(msgspec.Struct):
    total_tokens: int = 0


class _Tokens(msgspec.Struct):
    input_tokens: int = 0


class _Meta(msgspec.Struct):
    tokens: _Tokens | None = None


class _Answer(msgspec.Struct):
    results: list[_Result]
    usage: _Usage | None = None
    """Where Jina and vLLM count."""
    meta: _Meta | None = None
    """Where Cohere does."""


_decode = msgspec.json.Decoder(_Answer, strict=False).decode


class HttpRerank:
    """RerankProvider over one endpoint."""

    def __init__(self, client: HttpClient, endpoint: Endpoint) -> None:
        self._client = client
        self._endpoint = endpoint

    async def rerank(
        self,
        model: str,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int,
        seconds_left: float | None,
    ) -> Ranking:
        wanted = min(top_n or len(documents), len(documents))
        answer = await post_json(
            self._client,
            self._endpoint,
            self._endpoint.path_of(PATH, model),
            {"model": model, "query": query, "documents": list(documents), "top_n": wanted},
            _decode,
            seconds_left=seconds_left,
        )
        results = [Ranked(one.index, one.relevance_score) for one in answer.results]
        self._check(results, len(documents))
        results.sort(key=lambda one: -one.score)
        return Ranking(results[:wanted], _tokens(answer))

    def _check(self, results: list[Ranked], documents: int) -> None:
        indexes = {one.index for one in results}
        if len(indexes) != len(results) or not indexes <= set(range(documents)):
            raise broken_protocol(self._endpoint, "it ranks documents that were not sent")
        if not all(math.isfinite(one.score) for one in results):
            raise broken_protocol(self._endpoint, "a score that is no number")


def _tokens(answer: _Answer) -> int:
    if answer.usage is not None and answer.usage.total_tokens:
        return answer.usage.total_tokens
    tokens = answer.meta.tokens if answer.meta is not None else None
    return tokens.input_tokens if tokens is not None else 0
