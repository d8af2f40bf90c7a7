"""Objects below a folder of the tenant, as a store that can forget."""

from __future__ import annotations

from meshwright_common.erasure.stored import BATCH, Subject, in_batches
from meshwright_common.storage.objects import ObjectStore, object_key


class StoredObjects:
    """`StoredData` on the objects `tenants/<tenant>/<folder>/…`; none of them names a user.

    Objects of a user are found through the rows that name them: whoever has those rows removes
    their objects first.
    """

    def __init__(self, objects: ObjectStore, folder: str) -> None:
        self.name = f"objects:{folder}"
        self._objects = objects
        self._folder = folder

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
        if subject.user_id:
            return []
        return await self._objects.keys(object_key(subject.tenant_id, self._folder), most=BATCH)
