"""Ordering documents by how well they fit a query."""

from collections.abc import Sequence
from dataclasses import dataclass

from meshwright_model_router.domain.access import ModelAccess
from meshwright_model_router.domain.output import ReportedUsage, TokenUsage
from meshwright_model_router.domain.ports_other import Ranked, Ranking
from meshwright_model_router.domain.requests import Purpose
from meshwright_model_router.domain.tokens import count_text
from meshwright_model_router.domain.unary import UnaryCalls
from meshwright_model_router.domain.usage import Attribution, Operation, settle


@dataclass(frozen=True, slots=True)
class Reranked:
    """Documents, best first, who scored them, and what it took."""

    results: Sequence[Ranked]
    model: str
    usage: TokenUsage


class Reranker:
    """The use case behind Rerank."""

    def __init__(self, access: ModelAccess, calls: UnaryCalls) -> None:
        self._access = access
        self._calls = calls

    async def rerank(
        self,
        model: str,
        query: str,
        documents: Sequence[str],
        attribution: Attribution,
        *,
        top_n: int = 0,
    ) -> Reranked:
        """Return the `top_n` documents that fit best, best first; 0: all of them.

        Raises: as `ModelAccess.grant` and `UnaryCalls.run`.
        """
        grant = await self._access.grant(model, Operation.RERANK)
        tokens = count_text(query) + sum(map(count_text, documents))

        def usage_of(ranking: Ranking) -> TokenUsage:
            return settle(
                ReportedUsage(ranking.tokens, 0) if ranking.tokens else None,
                estimate_prompt=lambda: tokens,
                estimate_completion=lambda: 0,
            )

        answered = await self._calls.run(
            grant,
            Purpose.of(Operation.RERANK, attribution),
            tokens,
            lambda route, seconds_left: route.provider.rerank(
                route.model, query, documents, top_n=top_n, seconds_left=seconds_left
            ),
            usage_of,
        )
        return Reranked(answered.value.results, answered.route.model, answered.usage)
