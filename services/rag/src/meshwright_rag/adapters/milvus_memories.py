"""Vectors of memories in Milvus: a collection for each embedding model, partitioned by tenant.

Reads wait for all that was written before them: a memory is found as soon as it is stored, and not
found any more as soon as it is removed.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from pymilvus import DataType

from meshwright_rag.adapters.milvus_collections import (
    SEARCH_SECONDS,
    VECTOR,
    WRITE_SECONDS,
    MilvusCollections,
    Shape,
    among,
    having,
)
from meshwright_rag.domain.errors import IndexUnavailable
from meshwright_rag.domain.memory_ports import Memory, MemoryHit
from meshwright_rag.domain.ports import Vector

_FIELDS: Final = {"user_id": DataType.VARCHAR}
_DIGEST_BYTES: Final = 6


class MilvusMemories:
    """Implements `MemoryVectors`."""

    def __init__(self, collections: MilvusCollections) -> None:
        self._collections = collections

    async def put(
        self, tenant_id: str, model: str, memories: Sequence[Memory], vectors: Sequence[Vector]
    ) -> None:
        length = len(vectors[0])
        name = self._name(model, length)
        rows = [
            {
                "id": memory.memory_id,
                "tenant_id": tenant_id,
                "user_id": memory.user_id,
                VECTOR: list(vector),
            }
            for memory, vector in zip(memories, vectors, strict=True)
        ]
        client = await self._collections.loaded(name, create=Shape(_FIELDS, length))
        async with self._collections.asking(name, WRITE_SECONDS):
            # Not `upsert`: see MilvusIndex.
            same = among("id", [memory.memory_id for memory in memories])
            await client.delete(name, filter=same, timeout=WRITE_SECONDS)
            await client.insert(name, rows, timeout=WRITE_SECONDS)

    async def search(
        self, tenant_id: str, user_id: str, model: str, vector: Vector, *, most: int
    ) -> Sequence[MemoryHit]:
        name = self._name(model, len(vector))
        if not await self._collections.has(name):
            return []
        client = await self._collections.loaded(name)
        async with self._collections.asking(name, SEARCH_SECONDS):
            (hits,) = await client.search(
                name,
                data=[list(vector)],
                anns_field=VECTOR,
                filter=_of(tenant_id, user_id),
                output_fields=["id"],
                limit=most,
                search_params=self._collections.search_params(most),
                consistency_level="Strong",
                timeout=SEARCH_SECONDS,
            )
        found = [MemoryHit(str(hit["id"]), max(0.0, float(hit["distance"]))) for hit in hits]
        return sorted(found, key=lambda one: (-one.score, one.memory_id))

    async def remove(self, tenant_id: str, user_id: str, memory_ids: Sequence[str]) -> None:
        unwanted = _of(tenant_id, user_id)
        if memory_ids:
            unwanted += f" and {among('id', memory_ids)}"
        for name in await self._collections.names(self._collections.settings.memories):
            if not await self._collections.count(name, unwanted):
                continue
            client = await self._collections.loaded(name)
            async with self._collections.asking(name, WRITE_SECONDS):
                await client.delete(name, filter=unwanted, timeout=WRITE_SECONDS)
            if left := await self._collections.count(name, unwanted):
                raise IndexUnavailable(index="vector", cause=f"{left} memories are not removed yet")

    def _name(self, model: str, length: int) -> str:
        # Vectors of two models say nothing about each other, also when they have one length.
        digest = hashlib.sha256(model.encode()).hexdigest()[: 2 * _DIGEST_BYTES]
        return f"{self._collections.settings.memories}_{length}_{digest}"


def _of(tenant_id: str, user_id: str) -> str:
    return f"{having('tenant_id', tenant_id)} and {having('user_id', user_id)}"
