"""What caching needs from outside."""

from collections.abc import Sequence
from typing import Protocol

from meshwright_model_router.domain.caching.stored_answer import StoredAnswer
from meshwright_model_router.domain.call import ModelCall
from meshwright_model_router.domain.output import Started


class Admission(Protocol):
    """Whether a caller may use a model, asked before it is given a stored answer."""

    async def admit(self, call: ModelCall) -> str:
        """Return what stands for whoever would answer: another text when the routing changed.

        Raises: what the call without a cache would.
        """
        ...


class AnswerStore(Protocol):
    """Stored answers of all tenants, sealed. May forget anything at any time.

    All calls raise ServiceError while it is away, or the tenant's keys are.
    """

    async def names(self, tenant_id: str, contents: Sequence[bytes]) -> Sequence[str]:
        """Return a name for each content, which tells nothing of it."""
        ...

    async def find(self, tenant_id: str, name: str) -> StoredAnswer | None:
        """Return the answer of this name."""
        ...

    async def keep(
        self, tenant_id: str, user_id: str, name: str, answer: StoredAnswer, seconds: float
    ) -> None:
        """Keep an answer for so long; one that is too large is not kept. `user_id` made it."""
        ...

    async def find_near(
        self, tenant_id: str, scope: str, vector: Sequence[float], min_similarity: float
    ) -> StoredAnswer | None:
        """Return the answer to the most similar question of the scope that is similar enough."""
        ...

    async def keep_near(
        self,
        tenant_id: str,
        user_id: str,
        scope: str,
        vector: Sequence[float],
        name: str,
        seconds: float,
    ) -> None:
        """Keep that a question of this vector has the answer of this name."""
        ...


class QuestionVectors(Protocol):
    """The meaning of questions."""

    @property
    def model(self) -> str:
        """Name of the embedding model: vectors of two do not mix."""
        ...

    async def vector(self, call: ModelCall, question: str) -> Sequence[float]:
        """Return the question's vector, of unit length. Raises: as embeddings do."""
        ...


class CacheLog(Protocol):
    """Where is told what the cache did."""

    def told(self, call: ModelCall, started: Started) -> None:
        """Count a call that asked for stored answers; returns at once.

        One that was answered without a provider of its own leaves a usage record: of nothing.
        """
        ...
