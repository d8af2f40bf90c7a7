"""Embeddings by model-router."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from meshwright.model_router.v1 import model_service_pb2 as pb
from meshwright_common import context
from meshwright_rag.domain.ports import Embedded

if TYPE_CHECKING:
    from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceAsyncStub

SERVICE = "rag"
PERMISSION = "model:invoke"
MAX_TEXT_BYTES = 32 * 1024


class ModelClient:
    """Implements `Embedder`."""

    def __init__(self, stub: ModelServiceAsyncStub, *, timeout_seconds: float) -> None:
        self._stub = stub
        self._timeout_seconds = timeout_seconds

    async def embed(self, model: str, texts: Sequence[str], *, purpose: str) -> Embedded:
        request = pb.EmbedRequest(
            model=model,
            texts=[_within(text, MAX_TEXT_BYTES) for text in texts],
            attribution=pb.UsageAttribution(feature=purpose),
        )
        caller = context.principal()
        # A caller who may search need not be one who may call models: then it is our own call.
        call = (
            context.current() if caller.has(PERMISSION) else context.as_service(SERVICE, PERMISSION)
        )
        with context.bind(call):
            response = await self._stub.Embed(request, timeout=self._timeout_seconds)
        vectors = [embedding.values for embedding in response.embeddings]
        return Embedded(model=response.model, vectors=vectors)


def _within(text: str, limit_bytes: int) -> str:
    encoded = text.encode()
    return text if len(encoded) <= limit_bytes else encoded[:limit_bytes].decode(errors="ignore")
