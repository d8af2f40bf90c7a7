"""Objects below a folder of the tenant, as a store that can forget."""

from __future__ import annotations

from meshwright_common.erasure.stored import BATCH, Subject, in_batches
from meshwright_common.storage.objects import ObjectStore, object_key


class StoredObjects:
    """`StoredData` on the objects `tenants/<tenant>/<folder>/…`.

    `by_user`: those of a user are in a folder of the user's id. Otherwise none names its user, and
    whoever has the rows that name them removes them.
    """

    def __init__(self, objects: ObjectStore, folder: str, *, by_user: bool = False) -> None:
        self.name = f"objects:{folder}"
        self._objects = objects
        self._folder = folder
        self._by_user = by_user

    async def erase(self, subject: Subject) -> int:
        async def batch() -> int:
            found = await self._found(subject)
            for key in found:
                await self._objects.delete(key)
            return len(found)

        return await in_batches(batch)

    async def remaining(self, subject: Subject) -> int:
        return len(await self._found(subject))

    async def _found(self, subject: Subject) -> list[str]:
        if not subject.user_id:
            return await self._below(subject.tenant_id, self._folder)
        if self._by_user:
            return await self._below(subject.tenant_id, self._folder, subject.user_id)
        return []

    async def _below(self, tenant_id: str, *parts: str) -> list[str]:
        return await self._objects.keys(object_key(tenant_id, *parts), most=BATCH)
