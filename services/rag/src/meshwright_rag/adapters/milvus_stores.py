"""Vectors in Milvus, as stores that can forget. Only imported where Milvus is used."""

from collections.abc import Sequence

from meshwright_common.erasure.stored import StoredData, Subject
from meshwright_rag.adapters.milvus_collections import WRITE_SECONDS, MilvusCollections, having


def milvus_stores(collections: MilvusCollections) -> Sequence[StoredData]:
    """Return the stores: passages, which name no user, and memories."""
    settings = collections.settings
    return (
        MilvusVectors("milvus:passages", collections, settings.collection),
        MilvusVectors("milvus:memories", collections, settings.memories, user_field="user_id"),
    )


class MilvusVectors:
    """`StoredData` on all collections whose names begin with a prefix."""

    def __init__(
        self, name: str, collections: MilvusCollections, prefix: str, *, user_field: str = ""
    ) -> None:
        self.name = name
        self._collections = collections
        self._prefix = prefix
        self._user_field = user_field

    async def erase(self, subject: Subject) -> int:
        removed = 0
        if wanted := self._wanted(subject):
            for name in await self._collections.names(self._prefix):
                if count := await self._collections.count(name, wanted):
                    client = await self._collections.loaded(name)
                    async with self._collections.asking(name, WRITE_SECONDS):
                        await client.delete(name, filter=wanted, timeout=WRITE_SECONDS)
                    removed += count
        return removed

    async def remaining(self, subject: Subject) -> int:
        wanted = self._wanted(subject)
        if not wanted:
            return 0
        names = await self._collections.names(self._prefix)
        return sum([await self._collections.count(name, wanted) for name in names])

    def _wanted(self, subject: Subject) -> str:
        tenant = having("tenant_id", subject.tenant_id)
        if not subject.user_id:
            return tenant
        if not self._user_field:
            return ""
        return f"{tenant} and {having(self._user_field, subject.user_id)}"
