"""MemoryIndexService: protobuf in, domain call, protobuf out."""

from typing import Any, Final, TypeAlias

import grpc.aio

from meshwright.rag.v1 import memory_index_service_pb2 as pb
from meshwright.rag.v1.memory_index_service_pb2_grpc import MemoryIndexServiceServicer
from meshwright_common.context import principal
from meshwright_common.errors import invalid
from meshwright_common.ids import parse_id
from meshwright_rag.domain.memory_index import MemoryIndex
from meshwright_rag.domain.memory_ports import Memory
from meshwright_rag.metrics import MEMORY_WRITES

MAX_MEMORIES: Final = 100
MAX_TEXT_CHARACTERS: Final = 4_000
MAX_TOP_K: Final = 200
MAX_REMOVED: Final = 10_000

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
"""What gRPC gives each method; the interceptors bind what matters."""


class MemoryIndexServicer(MemoryIndexServiceServicer):
    """Serves MemoryIndexService."""

    def __init__(self, index: MemoryIndex) -> None:
        self._index = index

    async def IndexMemories(
        self, request: pb.IndexMemoriesRequest, context: Context
    ) -> pb.IndexMemoriesResponse:
        """Index memories."""
        await self._index.put(principal().tenant_id, _memories(request))
        MEMORY_WRITES.labels("put").inc()
        return pb.IndexMemoriesResponse()

    async def SearchMemories(
        self, request: pb.SearchMemoriesRequest, context: Context
    ) -> pb.SearchMemoriesResponse:
        """Find memories of a user."""
        if not 1 <= request.top_k <= MAX_TOP_K:
            raise invalid("top_k", f"must be 1 to {MAX_TOP_K}")
        hits = await self._index.search(
            principal().tenant_id,
            parse_id(request.user_id, "user_id"),
            _text(request.query, "query"),
            most=request.top_k,
        )
        return pb.SearchMemoriesResponse(
            hits=[pb.MemoryHit(memory_id=hit.memory_id, score=min(hit.score, 1.0)) for hit in hits]
        )

    async def RemoveMemories(
        self, request: pb.RemoveMemoriesRequest, context: Context
    ) -> pb.RemoveMemoriesResponse:
        """Remove memories of a user."""
        if len(request.memory_ids) > MAX_REMOVED:
            raise invalid("memory_ids", f"must be at most {MAX_REMOVED}")
        user_id = parse_id(request.user_id, "user_id")
        ids = [
            parse_id(one, f"memory_ids[{index}]") for index, one in enumerate(request.memory_ids)
        ]
        await self._index.remove(principal().tenant_id, user_id, ids)
        MEMORY_WRITES.labels("remove").inc()
        return pb.RemoveMemoriesResponse()


def _memories(request: pb.IndexMemoriesRequest) -> list[Memory]:
    if not 1 <= len(request.memories) <= MAX_MEMORIES:
        raise invalid("memories", f"must be 1 to {MAX_MEMORIES}")
    memories = []
    for index, one in enumerate(request.memories):
        field = f"memories[{index}]"
        memory_id = parse_id(one.memory_id, f"{field}.memory_id")
        user_id = parse_id(one.user_id, f"{field}.user_id")
        memories.append(Memory(memory_id, user_id, _text(one.text, f"{field}.text")))
    if len({memory.memory_id for memory in memories}) != len(memories):
        raise invalid("memories", "must not name one twice")
    return memories


def _text(value: str, field: str) -> str:
    if not 1 <= len(value) <= MAX_TEXT_CHARACTERS:
        raise invalid(field, f"must have 1 to {MAX_TEXT_CHARACTERS} characters")
    return value
