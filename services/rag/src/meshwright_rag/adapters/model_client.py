"""Embeddings by model-router."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from meshwright.model_router.v1 import model_service_pb2 as pb
from meshwright_common import context
from meshwright_common.context import Principal
from meshwright_rag.domain.ports import Embedded

if TYPE_CHECKING:
    from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceAsyncStub

SERVICE = "rag"
PERMISSION = "model:invoke"
MEMORY = "memory"
"""What usage records say the vectors of memories are for."""
MAX_TEXT_BYTES = 32 * 1024


class ModelClient:
    """Implements `Embedder` and `MemoryEmbedder`."""

    def __init__(self, stub: ModelServiceAsyncStub, *, timeout_seconds: float) -> None:
        self._stub = stub
        self._timeout_seconds = timeout_seconds

    async def embed(self, model: str, texts: Sequence[str], *, purpose: str) -> Embedded:
        caller = context.principal()
        # A caller who may search need not be one who may call models: then it is our own call.
        call = (
            context.current() if caller.has(PERMISSION) else context.as_service(SERVICE, PERMISSION)
        )
        return await self._embed(call, model, texts, purpose)

    async def embed_for(self, user_id: str, texts: Sequence[str]) -> Embedded:
        # A service asks for the user, and the user pays.
        user = Principal(context.principal().tenant_id, user_id, "user", frozenset({PERMISSION}))
        call = replace(context.current(), principal=user)
        return await self._embed(call, "", texts, MEMORY)

    async def _embed(
        self, call: context.CallContext, model: str, texts: Sequence[str], feature: str
    ) -> Embedded:
        request = pb.EmbedRequest(
            model=model,
            texts=[_within(text, MAX_TEXT_BYTES) for text in texts],
            attribution=pb.UsageAttribution(feature=feature),
        )
        with context.bind(call):
            response = await self._stub.Embed(request, timeout=self._timeout_seconds)
        vectors = [embedding.values for embedding in response.embeddings]
        return Embedded(model=response.model, vectors=vectors)


def _within(text: str, limit_bytes: int) -> str:
    encoded = text.encode()
    return text if len(encoded) <= limit_bytes else encoded[:limit_bytes].decode(errors="ignore")
