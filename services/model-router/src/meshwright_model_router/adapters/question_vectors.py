"""The meaning of questions, by the router's default embedding model. It is usage like any other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from meshwright_common.ids import new_id
from meshwright_model_router.domain.call import ModelCall
from meshwright_model_router.domain.embedding import Embedder
from meshwright_model_router.domain.usage import Attribution

FEATURE = "answer_cache"
"""What usage records say that these embeddings are for."""


class EmbeddedQuestions:
    """`QuestionVectors` by the use case behind Embed and its default model, which `named` tells."""

    def __init__(self, embedder: Embedder, named: Callable[[], str]) -> None:
        self._embedder = embedder
        self._named = named

    @property
    def model(self) -> str:
        return self._named()

    async def vector(self, call: ModelCall, question: str) -> Sequence[float]:
        purpose = Attribution(new_id(), session_id=call.attribution.session_id, feature=FEATURE)
        embedded = await self._embedder.embed(self.model, [question], purpose)
        return embedded.vectors[0]
