"""A stand-in for rag's index of memories: vectors of words, and every way to be away."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import grpc.aio

from meshwright.rag.v1 import memory_index_service_pb2 as pb
from meshwright.rag.v1.memory_index_service_pb2_grpc import MemoryIndexServiceServicer
from meshwright_common.context import principal
from meshwright_common.errors import ServiceError
from meshwright_common.text.terms import terms

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass
class WordsIndex(MemoryIndexServiceServicer):
    """Finds by shared words. `error`: what calls raise. `gate`: what writers wait for."""

    error: ServiceError | None = None
    gate: asyncio.Event | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    entries: dict[tuple[str, str, str], Mapping[str, int]] = field(default_factory=dict)
    puts: int = 0
    searches: int = 0

    def of(self, user_id: str) -> set[str]:
        """Return the ids that are indexed of a user."""
        return {memory_id for _, user, memory_id in self.entries if user == user_id}

    async def IndexMemories(
        self, request: pb.IndexMemoriesRequest, context: Context
    ) -> pb.IndexMemoriesResponse:
        await self._pass()
        self.puts += 1
        for memory in request.memories:
            key = (principal().tenant_id, memory.user_id, memory.memory_id)
            self.entries[key] = _words(memory.text)
        return pb.IndexMemoriesResponse()

    async def SearchMemories(
        self, request: pb.SearchMemoriesRequest, context: Context
    ) -> pb.SearchMemoriesResponse:
        if self.error is not None:
            raise self.error
        self.searches += 1
        asked = _words(request.query)
        hits = [
            pb.MemoryHit(memory_id=memory_id, score=_cosine(asked, words))
            for (tenant, user, memory_id), words in self.entries.items()
            if (tenant, user) == (principal().tenant_id, request.user_id)
        ]
        hits.sort(key=lambda hit: hit.score, reverse=True)
        return pb.SearchMemoriesResponse(hits=hits[: request.top_k])

    async def RemoveMemories(
        self, request: pb.RemoveMemoriesRequest, context: Context
    ) -> pb.RemoveMemoriesResponse:
        await self._pass()
        for key in list(self.entries):
            if key[:2] == (principal().tenant_id, request.user_id) and (
                not request.memory_ids or key[2] in request.memory_ids
            ):
                del self.entries[key]
        return pb.RemoveMemoriesResponse()

    async def _pass(self) -> None:
        self.arrived.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error


def _words(text: str) -> Mapping[str, int]:
    return Counter(term for _, term in terms(text))


def _cosine(one: Mapping[str, int], other: Mapping[str, int]) -> float:
    product = sum(one[term] * other.get(term, 0) for term in one)
    sizes = [sqrt(sum(number**2 for number in words.values())) for words in (one, other)]
    return product / (sizes[0] * sizes[1]) if all(sizes) else 0.0
