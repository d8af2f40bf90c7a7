"""Passages in Milvus: a collection per length of vectors, partitioned by tenant.

Milvus has no transactions, so it is written before the database notes what it holds, and only
passages that the database says answer leave a search.
"""

from collections.abc import Sequence
from typing import Final

from pymilvus import DataType

from meshwright_rag.adapters.live_documents import LiveDocuments
from meshwright_rag.adapters.milvus_collections import (
    MOST_FOUND,
    SEARCH_SECONDS,
    VECTOR,
    WRITE_SECONDS,
    MilvusCollections,
    Shape,
    among,
    having,
)
from meshwright_rag.domain.errors import IndexUnavailable
from meshwright_rag.domain.models import IndexTask, NewPassage, PassageRef, SearchScope
from meshwright_rag.domain.ports import Vector

_FIELDS: Final = {
    "knowledge_base_id": DataType.VARCHAR,
    "document_id": DataType.VARCHAR,
    "generation": DataType.VARCHAR,
    "ordinal": DataType.INT64,
}


class MilvusIndex:
    """Implements `VectorIndex` and `PassageIndex`. `documents` says which generations answer."""

    store = "milvus:passages"

    def __init__(self, collections: MilvusCollections, documents: LiveDocuments) -> None:
        self._collections = collections
        self._documents = documents

    async def search(
        self, scope: SearchScope, vector: Vector, *, most: int
    ) -> Sequence[PassageRef]:
        tenant = having("tenant_id", scope.tenant_id)

        async def find(field: str, values: Sequence[str], count: int) -> Sequence[PassageRef]:
            return await self._near(f"{tenant} and {among(field, values)}", vector, count)

        return await self._documents.search(scope, find, most=most, found_at_most=MOST_FOUND)

    async def put(
        self,
        tenant_id: str,
        task: IndexTask,
        passages: Sequence[NewPassage],
        vectors: Sequence[Vector],
    ) -> None:
        name = self._name(len(vectors[0]))
        refs = [task.ref(passage) for passage in passages]
        rows = [
            {
                "id": ref.chunk_id,
                "tenant_id": tenant_id,
                "knowledge_base_id": task.knowledge_base_id,
                "document_id": ref.document_id,
                "generation": ref.generation,
                "ordinal": ref.ordinal,
                VECTOR: list(vector),
            }
            for ref, vector in zip(refs, vectors, strict=True)
        ]
        client = await self._collections.loaded(name, create=Shape(_FIELDS, len(vectors[0])))
        async with self._collections.asking(name, WRITE_SECONDS):
            # Not `upsert`: Milvus 2.3 loses rows by it where a collection has a partition key, and
            # an insert by itself would leave two of a row. By the key alone: for any other clause
            # Milvus looks for the rows first, which takes 0.2 s. The keys are of this generation.
            same = among("id", [ref.chunk_id for ref in refs])
            await client.delete(name, filter=same, timeout=WRITE_SECONDS)
            await client.insert(name, rows, timeout=WRITE_SECONDS)

    async def count(self, tenant_id: str, task: IndexTask) -> int:
        wanted = f"{having('tenant_id', tenant_id)} and {having('generation', task.generation)}"
        return sum([await self._collections.count(name, wanted) for name in await self._names()])

    async def discard(
        self, tenant_id: str, document_id: str, *, only: str = "", but: str = ""
    ) -> int:
        unwanted = f"{having('tenant_id', tenant_id)} and {having('document_id', document_id)}"
        if only:
            unwanted += f" and {having('generation', only)}"
        if but:
            unwanted += f" and not ({having('generation', but)})"
        removed = 0
        for name in await self._names():
            if not (count := await self._collections.count(name, unwanted)):
                continue
            client = await self._collections.loaded(name)
            async with self._collections.asking(name, WRITE_SECONDS):
                await client.delete(name, filter=unwanted, timeout=WRITE_SECONDS)
            if left := await self._collections.count(name, unwanted):
                raise IndexUnavailable(index="vector", cause=f"{left} passages are not removed yet")
            removed += count
        return removed

    async def _near(self, wanted: str, vector: Vector, limit: int) -> list[PassageRef]:
        name = self._name(len(vector))
        client = await self._collections.loaded(name)
        async with self._collections.asking(name, SEARCH_SECONDS):
            (hits,) = await client.search(
                name,
                data=[list(vector)],
                anns_field=VECTOR,
                filter=wanted,
                limit=limit,
                output_fields=["document_id", "generation", "ordinal"],
                search_params=self._collections.search_params(limit),
                # What was counted when a document became ready is seen by this, too.
                consistency_level="Bounded",
                timeout=SEARCH_SECONDS,
            )
        found = [(-hit["distance"], hit["entity"]) for hit in hits]
        found.sort(key=lambda one: (one[0], one[1]["document_id"], one[1]["ordinal"]))
        return [
            PassageRef(entity["document_id"], entity["generation"], int(entity["ordinal"]))
            for _, entity in found
        ]

    async def _names(self) -> Sequence[str]:
        """Return our collections: one for each length of vectors."""
        prefix = self._collections.settings.collection
        names = await self._collections.names(prefix)
        return [name for name in names if name.removeprefix(f"{prefix}_").isdecimal()]

    def _name(self, length: int) -> str:
        return f"{self._collections.settings.collection}_{length}"
