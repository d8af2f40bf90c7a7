"""Finding memories by meaning. What they say and whether they hold, session knows."""

from collections.abc import Sequence

from meshwright_common.errors import DeadlineExceeded, ServiceError, Unavailable
from meshwright_rag.domain.errors import SearchUnavailable
from meshwright_rag.domain.memory_ports import Memory, MemoryEmbedder, MemoryHit, MemoryVectors

AWAY = (Unavailable, DeadlineExceeded)
VECTOR = "vector"


class MemoryIndex:
    """Puts, finds and removes the vectors of memories."""

    def __init__(self, vectors: MemoryVectors, embedder: MemoryEmbedder) -> None:
        self._vectors = vectors
        self._embedder = embedder

    async def put(self, tenant_id: str, memories: Sequence[Memory]) -> None:
        """Index memories, or index them anew; they are found from now on. Idempotent.

        Raises: SearchUnavailable.
        """
        by_user: dict[str, list[Memory]] = {}
        for memory in memories:
            by_user.setdefault(memory.user_id, []).append(memory)
        try:
            for user_id, theirs in by_user.items():
                made = await self._embedder.embed_for(user_id, [one.text for one in theirs])
                await self._vectors.put(tenant_id, made.model, theirs, made.vectors)
        except AWAY as error:
            raise _away(error) from error

    async def search(
        self, tenant_id: str, user_id: str, query: str, *, most: int
    ) -> Sequence[MemoryHit]:
        """Return up to `most` memories of the user, nearest first. Raises: SearchUnavailable."""
        try:
            made = await self._embedder.embed_for(user_id, [query])
            return await self._vectors.search(
                tenant_id, user_id, made.model, made.vectors[0], most=most
            )
        except AWAY as error:
            raise _away(error) from error

    async def remove(self, tenant_id: str, user_id: str, memory_ids: Sequence[str]) -> None:
        """Remove memories of the user; without ids, all. Absent ones are fine.

        Raises: SearchUnavailable.
        """
        try:
            await self._vectors.remove(tenant_id, user_id, memory_ids)
        except AWAY as error:
            raise _away(error) from error


def _away(error: ServiceError) -> SearchUnavailable:
    return SearchUnavailable(missing=VECTOR, cause=error.message)
