"""A stand-in for model-router: vectors of hashed words, and every way to be away."""

import asyncio
import hashlib
import math
from dataclasses import dataclass, field
from typing import Any

import grpc.aio

from meshwright.model_router.v1 import generation_pb2, model_service_pb2
from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceServicer
from meshwright_common.context import principal
from meshwright_common.errors import NotFound, ServiceError
from meshwright_common.text.terms import terms

LENGTH = 64
DEFAULT_MODEL = "words-64"


@dataclass
class WordsModel(ModelServiceServicer):
    """Embeds by hashing words.

    `error`: what calls raise. `gate`: what they wait for, after `free_calls` that do not.
    """

    error: ServiceError | None = None
    gate: asyncio.Event | None = None
    free_calls: int = 0
    length: int = LENGTH
    calls: list[tuple[str, int]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def Embed(
        self, request: model_service_pb2.EmbedRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> model_service_pb2.EmbedResponse:
        """Embed the texts."""
        self.calls.append((principal().subject, len(request.texts)))
        self.arrived.set()
        if self.gate is not None and len(self.calls) > self.free_calls:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        if request.model not in {"", DEFAULT_MODEL}:
            raise NotFound(f"no model {request.model}")
        vectors = [
            generation_pb2.Embedding(values=vector_of_words(text, self.length))
            for text in request.texts
        ]
        return model_service_pb2.EmbedResponse(embeddings=vectors, model=DEFAULT_MODEL)


def vector_of_words(text: str, length: int = LENGTH) -> list[float]:
    """Return a vector of unit length made of the hashed words of a text."""
    values = [0.0] * length
    for _, term in terms(text):
        digest = hashlib.blake2b(term.encode(), digest_size=8).digest()
        values[int.from_bytes(digest) % length] += 1.0
    size = math.hypot(*values) or 1.0
    return [value / size for value in values]
