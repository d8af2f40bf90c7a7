"""OpenAI-compatible moderation: POST …/moderations."""

from collections.abc import Sequence
from typing import Final

import msgspec

from meshwright_model_router.domain.ports_other import Verdict, Verdicts
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.failures import broken_protocol
from meshwright_model_router.providers.http import HttpClient
from meshwright_model_router.providers.json_answer import post_json

PATH: Final = "moderations"


class _Result(msgspec.Struct):
    flagged: bool
    category_scores: dict[str, float]


class _Answer(msgspec.Struct):
    results: list[_Result]


_decode = msgspec.json.Decoder(_Answer).decode


class OpenAiModeration:
    """ModerationProvider over one endpoint; the API counts no tokens."""

    def __init__(self, client: HttpClient, endpoint: Endpoint) -> None:
        self._client = client
        self._endpoint = endpoint

    async def moderate(
        self, model: str, texts: Sequence[str], *, seconds_left: float | None
    ) -> Verdicts:
        endpoint = self._endpoint
        answer = await post_json(
            self._client,
            endpoint,
            endpoint.path_of(PATH, model),
            {"model": model, "input": list(texts)},
            _decode,
            seconds_left=seconds_left,
        )
        if len(answer.results) != len(texts):
            raise broken_protocol(endpoint, f"{len(answer.results)} verdicts, {len(texts)} texts")
        return Verdicts([_verdict(one) for one in answer.results])


def _verdict(result: _Result) -> Verdict:
    # Comparison this way round, so that what is no number becomes 0.
    scores = {
        name: min(score, 1.0) if score > 0 else 0.0
        for name, score in result.category_scores.items()
    }
    return Verdict(result.flagged, scores)
