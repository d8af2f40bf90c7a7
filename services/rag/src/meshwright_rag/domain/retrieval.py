"""Hybrid search: by meaning and by words at once, fused, and still answering when one is away."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from meshwright_common import context
from meshwright_common.errors import ServiceError
from meshwright_rag.domain.errors import SearchUnavailable
from meshwright_rag.domain.models import (
    Hit,
    KnowledgeBase,
    PassageRef,
    SearchQuery,
    SearchResult,
    SearchScope,
)
from meshwright_rag.domain.ports import (
    Embedder,
    FullTextIndex,
    KnowledgeBases,
    Passages,
    VectorIndex,
)
from meshwright_rag.domain.ranking import Fused, fuse

CANDIDATES: Final = 2
LEAST_CANDIDATES: Final = 50
"""Each side finds `CANDIDATES` times `top_k` passages for the fusion to choose from, and no fewer
than the least: a passage that one side ranks first and the other fortieth should beat one that
only a single side knows, and for that both lists have to be long enough to show it."""

VECTOR: Final = "vector"
TEXT: Final = "text"
_SHARE_OF_TIME: Final = 0.7
"""What one side may take of the time that is left: the other's answer has to go out in time."""


@dataclass(frozen=True, slots=True)
class VectorWeights:
    """How much the vector side counts in a search that does not say: usually, and by model."""

    usual: float
    by_model: Mapping[str, float]

    def of(self, bases: Sequence[KnowledgeBase]) -> float:
        """Return the weight for searching these: of several models, the one least trusted."""
        models = {base.embedding_model for base in bases if base.vector_length is not None}
        return min((self.by_model.get(model, self.usual) for model in models), default=self.usual)


class Retrieval:
    """Searches knowledge bases. One side that takes longer than `side_seconds` counts as away."""

    def __init__(
        self,
        *,
        knowledge_bases: KnowledgeBases,
        embedder: Embedder,
        vectors: VectorIndex,
        full_text: FullTextIndex,
        passages: Passages,
        weights: VectorWeights,
        side_seconds: float,
    ) -> None:
        self._knowledge_bases = knowledge_bases
        self._embedder = embedder
        self._vectors = vectors
        self._full_text = full_text
        self._passages = passages
        self._weights = weights
        self._side_seconds = side_seconds

    async def search(self, tenant_id: str, query: SearchQuery) -> SearchResult:
        """Return the passages that fit best.

        Raises: KnowledgeBaseNotFound; SearchUnavailable when no side that counts could be asked.
        """
        bases = await self._knowledge_bases.find_all(tenant_id, query.knowledge_base_ids)
        scope = SearchScope(
            tenant_id=tenant_id,
            knowledge_base_ids=tuple(base.knowledge_base_id for base in bases),
            metadata_filter=query.metadata_filter,
            document_ids=query.document_ids,
        )
        lists, degraded = await self._both_sides(scope, query, bases)
        fused = fuse(lists)
        hits = await self._hits(tenant_id, fused, query)
        return SearchResult(hits, degraded)

    async def _both_sides(
        self, scope: SearchScope, query: SearchQuery, bases: Sequence[KnowledgeBase]
    ) -> tuple[Mapping[str, tuple[float, Sequence[PassageRef]]], tuple[str, ...]]:
        weight = query.vector_weight
        if weight is None:
            weight = self._weights.of(bases)
        weights = {VECTOR: weight, TEXT: 1 - weight}
        searches = {VECTOR: self._by_meaning, TEXT: self._by_words}
        async with asyncio.TaskGroup() as group:
            tasks = {
                side: group.create_task(self._tried(search(scope, query, bases)))
                for side, search in searches.items()
                if weights[side] > 0
            }
        found = {side: task.result() for side, task in tasks.items()}
        degraded = tuple(side for side, refs in found.items() if refs is None)
        if len(degraded) == len(found):
            raise SearchUnavailable(missing=", ".join(degraded))
        lists = {side: (weights[side], refs) for side, refs in found.items() if refs is not None}
        return lists, degraded

    async def _tried(self, search: Awaitable[Sequence[PassageRef]]) -> Sequence[PassageRef] | None:
        """Return what the search finds; None when it cannot be done, in time or at all."""
        left = context.remaining_seconds()
        seconds = self._side_seconds if left is None else left * _SHARE_OF_TIME
        try:
            async with asyncio.timeout(min(seconds, self._side_seconds)):
                return await search
        except (ServiceError, TimeoutError):
            return None

    async def _by_meaning(
        self, scope: SearchScope, query: SearchQuery, bases: Sequence[KnowledgeBase]
    ) -> Sequence[PassageRef]:
        """Search each group of knowledge bases with the vector of its own model."""
        groups: dict[str, list[str]] = {}
        for base in bases:
            if base.vector_length is not None:
                groups.setdefault(base.embedding_model, []).append(base.knowledge_base_id)
        lists = {}
        most = _candidates(query)
        for model, ids in groups.items():
            embedded = await self._embedder.embed(model, [query.query], purpose="search")
            part = SearchScope(
                scope.tenant_id, tuple(ids), scope.metadata_filter, scope.document_ids
            )
            lists[model] = (1.0, await self._vectors.search(part, embedded.vectors[0], most=most))
        # Distances of different models say nothing about each other; ranks do.
        return [one.item for one in fuse(lists)][:most]

    async def _by_words(
        self, scope: SearchScope, query: SearchQuery, bases: Sequence[KnowledgeBase]
    ) -> Sequence[PassageRef]:
        return await self._full_text.search(scope, query.query, most=_candidates(query))

    async def _hits(
        self, tenant_id: str, fused: Sequence[Fused[PassageRef]], query: SearchQuery
    ) -> Sequence[Hit]:
        """Return the first `top_k` that may be shown: a document may be gone since it was found."""
        hits: list[Hit] = []
        waiting = list(fused)
        while waiting and len(hits) < query.top_k:
            missing = query.top_k - len(hits)
            part, waiting = waiting[:missing], waiting[missing:]
            passages = await self._passages.fetch(
                tenant_id, [one.item for one in part], neighbours=query.neighbours
            )
            hits += [
                Hit(
                    passage=passages[one.item],
                    score=one.score,
                    vector_rank=one.ranks.get(VECTOR),
                    text_rank=one.ranks.get(TEXT),
                )
                for one in part
                if one.item in passages
            ]
        return hits


def _candidates(query: SearchQuery) -> int:
    return max(CANDIDATES * query.top_k, LEAST_CANDIDATES)
