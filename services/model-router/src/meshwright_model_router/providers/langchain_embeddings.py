"""Any embedding model of LangChain as a provider, made by a callable that the operator names."""

import asyncio
from collections.abc import Sequence

from langchain_core.embeddings import Embeddings

from meshwright_common.errors import invalid
from meshwright_model_router.domain.ports import Vectors
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.factory import Factory
from meshwright_model_router.providers.failures import broken_protocol, timed_out
from meshwright_model_router.providers.raised_errors import from_exception
from meshwright_model_router.providers.threaded_stream import ThreadedStreams
from meshwright_model_router.providers.unit_vectors import unit_vector


class LangChainEmbeddings:
    """EmbeddingProvider over one model; `dimensions` is the length its vectors must have."""

    def __init__(self, factory: Factory, endpoint: Endpoint, dimensions: int) -> None:
        """Make the model. Raises: FactoryError."""
        self._endpoint = endpoint
        self._dimensions = dimensions
        self._model: Embeddings = factory.make(Embeddings)
        own = type(self._model).aembed_documents is not Embeddings.aembed_documents
        self._threads = None if own else ThreadedStreams()

    async def embed(
        self, model: str, texts: Sequence[str], *, dimensions: int, seconds_left: float | None
    ) -> Vectors:
        if dimensions not in {0, self._dimensions}:
            raise invalid("dimensions", f"must be 0 or {self._dimensions} for {model!r}")
        endpoint, total = self._endpoint, self._endpoint.timeouts.total
        seconds = total if seconds_left is None else min(total, seconds_left)
        try:
            async with asyncio.timeout(seconds):
                vectors = await self._embed(list(texts))
        except TimeoutError as error:
            raise timed_out(endpoint, "no answer", seconds) from error
        # house: broad-except: the model is the operator's code and may raise anything
        except Exception as error:
            raise from_exception(endpoint, error) from error
        if len(vectors) != len(texts):
            raise broken_protocol(endpoint, f"{len(vectors)} vectors for {len(texts)} texts")
        # LangChain's interface tells no tokens.
        return Vectors([unit_vector(endpoint, one, self._dimensions) for one in vectors], 0)

    async def _embed(self, texts: list[str]) -> list[list[float]]:
        if self._threads is None:
            return await self._model.aembed_documents(texts)
        answers = self._threads.run(lambda: iter([self._model.embed_documents(texts)]))
        try:
            return await anext(answers)
        finally:
            await answers.aclose()
