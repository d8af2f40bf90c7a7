"""The index of memories over rag's stub. Only services may ask it, so this one does as itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from meshwright.rag.v1 import memory_index_service_pb2 as pb
from meshwright_common import context
from meshwright_common.context import MESH_INTERNAL, bind, service_context
from meshwright_session.domain.memory_ports import Hit
from meshwright_session.domain.models import Owner

if TYPE_CHECKING:
    from meshwright.rag.v1.memory_index_service_pb2_grpc import MemoryIndexServiceAsyncStub

SERVICE: Final = "session"
MOST_TOGETHER: Final = 100
"""Memories that one call indexes (rag/v1/memory_index_service.proto)."""


class RetrievalClient:
    """MemoryIndex: see the port."""

    def __init__(self, stub: MemoryIndexServiceAsyncStub) -> None:
        self._stub = stub

    async def put(self, tenant_id: str, user_id: str, texts: dict[str, str]) -> None:
        left = iter(texts.items())
        with bind(_as_service(tenant_id)):
            while part := list(islice(left, MOST_TOGETHER)):
                await self._stub.IndexMemories(
                    pb.IndexMemoriesRequest(
                        memories=[
                            pb.IndexedMemory(memory_id=memory_id, user_id=user_id, text=text)
                            for memory_id, text in part
                        ]
                    )
                )

    async def search(self, owner: Owner, query: str, most: int) -> Sequence[Hit]:
        request = pb.SearchMemoriesRequest(user_id=owner.user_id, query=query, top_k=most)
        with bind(_as_service(owner.tenant_id)):
            response = await self._stub.SearchMemories(request)
        return [Hit(hit.memory_id, hit.score) for hit in response.hits]

    async def remove(self, tenant_id: str, user_id: str, memory_ids: Sequence[str]) -> None:
        with bind(_as_service(tenant_id)):
            await self._stub.RemoveMemories(
                pb.RemoveMemoriesRequest(user_id=user_id, memory_ids=memory_ids)
            )


def _as_service(tenant_id: str) -> context.CallContext:
    left = context.remaining_seconds()
    return service_context(SERVICE, tenant_id, (MESH_INTERNAL,), timeout_seconds=left)
