"""Remembering, recalling and forgetting."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from meshwright_common import context
from meshwright_common.errors import ServiceError
from meshwright_common.text.terms import prepare
from meshwright_session.domain import paging
from meshwright_session.domain.acts import Act
from meshwright_session.domain.memory_indexing import Indexing
from meshwright_session.domain.memory_models import (
    Memory,
    MemoryDraft,
    MemoryFilter,
    Provenance,
    RecalledMemory,
    RecallQuery,
    Recollection,
    Selection,
)
from meshwright_session.domain.memory_ports import Hit, MemoryIndex, MemoryStore
from meshwright_session.domain.memory_words import sharing_words
from meshwright_session.domain.models import Owner, Request
from meshwright_session.domain.paging import Page, PageRequest

VECTOR: Final = "vector"
"""What is missing from an answer that the index gave nothing to."""
SEARCH_SECONDS: Final = 2.0
"""An index that takes longer counts as away."""
_SHARE_OF_TIME: Final = 0.7
LEAST_HITS: Final = 50
MOST_HITS: Final = 200
"""Of the index (rag/v1/memory_index_service.proto)."""
HITS_PER_WANTED: Final = 4
"""Some of what the index finds no longer holds."""
NEWEST: Final = 300
"""So many are looked through for shared words: opening and cutting them takes some 10 ms."""
NEWEST_UNINDEXED: Final = 100


@dataclass(frozen=True, slots=True)
class _Found:
    """What the index found; None: it could not be asked."""

    hits: Sequence[Hit] | None


class Memories:
    """The memories of users."""

    def __init__(self, store: MemoryStore, index: MemoryIndex, indexing: Indexing) -> None:
        self._store = store
        self._index = index
        self._indexing = indexing

    async def remember(
        self,
        owner: Owner,
        drafts: Sequence[MemoryDraft],
        provenance: Provenance,
        batch: Request,
    ) -> Sequence[Memory]:
        """Store memories in one transaction; they can be recalled when it returns.

        Raises: SessionNotFound, UserNotFound, IdempotencyKeyReused.
        """
        remembered = await self._store.remember(owner, drafts, provenance, batch)
        # An index that is away is caught up with later; until then shared words find them.
        await self._indexing.do(remembered.work)
        return remembered.memories

    async def recall(self, owner: Owner, query: RecallQuery) -> Recollection:
        """Return memories that hold and fit, best first. Raises: SessionNotFound."""
        most = _hits_wanted(query)
        count = await self._store.count(owner, query.wanted, most)
        if not count:
            # Most users begin so: nothing to embed the question for.
            return Recollection(())
        async with asyncio.TaskGroup() as group:
            searching = group.create_task(self._search(owner, query, most))
            reading = group.create_task(
                self._store.newest(owner, query.wanted, NEWEST_UNINDEXED, unindexed=True)
            )
        hits = searching.result().hits
        scored = await self._by_words(query, reading.result())
        if hits is None:
            scored = [*scored, *await self._by_words(query, await self._newest(owner, query))]
        else:
            scores = {hit.memory_id: hit.score for hit in hits}
            held = await self._store.holding(owner, list(scores), query.wanted)
            scored = [*scored, *(RecalledMemory(one, scores[one.memory_id]) for one in held)]
            if len(held) < count:
                # The index does not know the filter, nor vectors of another embedding model.
                scored = [*scored, *await self._by_words(query, await self._newest(owner, query))]
        degraded = (VECTOR,) if hits is None else ()
        return Recollection(_best(scored, query), degraded)

    async def list(
        self, owner: Owner, wanted: MemoryFilter, page: PageRequest, *, include_superseded: bool
    ) -> Page[Memory]:
        """Return a page of memories, newest first. Raises: SessionNotFound."""
        kinds = ",".join(sorted(wanted.kinds))
        scope = (
            owner.tenant_id, owner.user_id, "memories", kinds, wanted.session_id or "",
            str(include_superseded),
        )  # fmt: skip
        position = paging.decode(scope, page.token, (str,))
        before = None if position is None else paging.identifier(position[0])
        rows = await self._store.list(
            owner, wanted, before, page.size + 1, include_superseded=include_superseded
        )
        rows, last = paging.cut(rows, page.size)
        if last is None:
            return Page(rows)
        return Page(rows, paging.encode(scope, (last.memory_id,)))

    async def forget(self, owner: Owner, selection: Selection) -> int:
        """Remove memories: none of them is recalled from now on; return how many there were.

        The index is rid of them soon after, as its worker comes to them.
        """
        resource = f"user/{owner.user_id}/memories"
        return await self._store.forget(owner, selection, Act("memory.forgotten", resource))

    async def _newest(self, owner: Owner, query: RecallQuery) -> Sequence[Memory]:
        return await self._store.newest(owner, query.wanted, NEWEST)

    async def _search(self, owner: Owner, query: RecallQuery, most: int) -> _Found:
        left = context.remaining_seconds()
        seconds = SEARCH_SECONDS if left is None else min(left * _SHARE_OF_TIME, SEARCH_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                return _Found(await self._index.search(owner, query.text, most))
        except (ServiceError, TimeoutError):
            # Away, or the tenant has used up what embedding costs: words are found for nothing.
            return _Found(None)

    async def _by_words(
        self, query: RecallQuery, memories: Sequence[Memory]
    ) -> Sequence[RecalledMemory]:
        if not memories:
            return ()
        await prepare(query.text)
        return sharing_words(query.text, memories)


def _hits_wanted(query: RecallQuery) -> int:
    if query.wanted.narrows:
        return MOST_HITS
    return min(max(query.top_k * HITS_PER_WANTED, LEAST_HITS), MOST_HITS)


def _best(scored: Sequence[RecalledMemory], query: RecallQuery) -> Sequence[RecalledMemory]:
    best: dict[str, RecalledMemory] = {}
    for one in scored:
        known = best.get(one.memory.memory_id)
        if known is None or known.score < one.score:
            best[one.memory.memory_id] = one
    fitting = [one for one in best.values() if one.score > 0 and one.score >= query.min_score]
    # Of two that fit alike the newer one says how things are now.
    fitting.sort(key=lambda one: (one.score, one.memory.memory_id), reverse=True)
    return fitting[: query.top_k]
