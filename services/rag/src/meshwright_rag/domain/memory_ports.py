"""What the index of memories needs from the outside."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from meshwright_rag.domain.ports import Embedded, Vector


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory to index. Its text is embedded and not kept."""

    memory_id: str
    user_id: str
    text: str


@dataclass(frozen=True, slots=True)
class MemoryHit:
    """A memory that is near a question. `score`: the cosine of the angle, 0 when it is negative."""

    memory_id: str
    score: float


class MemoryVectors(Protocol):
    """The vectors of memories, apart by tenant, user and embedding model.

    Raises, every one: Unavailable when the store cannot be asked. Every call may be repeated.
    """

    async def put(
        self, tenant_id: str, model: str, memories: Sequence[Memory], vectors: Sequence[Vector]
    ) -> None:
        """Store vectors, in place of those of the same ids. Searches see them from now on."""
        ...

    async def search(
        self, tenant_id: str, user_id: str, model: str, vector: Vector, *, most: int
    ) -> Sequence[MemoryHit]:
        """Return up to `most` memories of the user, nearest first."""
        ...

    async def remove(self, tenant_id: str, user_id: str, memory_ids: Sequence[str]) -> None:
        """Remove vectors of the user: those of `memory_ids`, of every model; without any, all."""
        ...


class MemoryEmbedder(Protocol):
    """Turns texts into vectors, at the cost of the user whose memories they are."""

    async def embed_for(self, user_id: str, texts: Sequence[str]) -> Embedded:
        """Return the vectors of the default model, in the order of texts. Raises: Unavailable."""
        ...
