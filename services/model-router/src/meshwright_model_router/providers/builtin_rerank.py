"""RerankProvider without a provider: nearness of the built-in vectors."""

from collections.abc import Sequence
from operator import mul

from meshwright_model_router.domain.ports import EmbeddingProvider
from meshwright_model_router.domain.ports_other import Ranked, Ranking


class BuiltinRerank:
    """RerankProvider over the built-in embeddings, which compute in a process of their own."""

    def __init__(self, embeddings: EmbeddingProvider) -> None:
        self._embeddings = embeddings

    async def rerank(
        self,
        model: str,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int,
        seconds_left: float | None,
    ) -> Ranking:
        vectors = await self._embeddings.embed(
            model, [query, *documents], dimensions=0, seconds_left=seconds_left
        )
        wanted, *others = vectors.values
        # Vectors have unit length: their product is the cosine, from -1 to 1.
        scored = [
            Ranked(index, sum(map(mul, wanted, vector))) for index, vector in enumerate(others)
        ]
        scored.sort(key=lambda one: -one.score)
        return Ranking(scored[: top_n or len(scored)], vectors.tokens)
