"""Original files in the object store."""

import hashlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from meshwright_common.ids import new_id
from meshwright_common.storage.objects import ObjectStore, object_key
from meshwright_rag.domain.errors import FileDamaged

FOLDER = "documents"
"""Below the tenant's prefix."""


class ObjectFiles:
    """Implements `Files`."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def new_key(self, tenant_id: str) -> str:
        return object_key(tenant_id, FOLDER, new_id())

    async def put(self, key: str, pieces: AsyncIterator[bytes]) -> tuple[int, str]:
        stored = await self._objects.put(key, pieces)
        return stored.size_bytes, stored.sha256

    @asynccontextmanager
    async def local_copy(self, key: str, *, sha256: str) -> AsyncIterator[Path]:
        digest = hashlib.sha256()
        with tempfile.NamedTemporaryFile(prefix="meshwright-rag-") as copy:
            async for piece in self._objects.open(key):
                digest.update(piece)
                copy.write(piece)
            if digest.hexdigest() != sha256:
                raise FileDamaged()
            copy.flush()
            yield Path(copy.name)

    async def delete(self, key: str) -> None:
        await self._objects.delete(key)

    async def exists(self, key: str) -> bool:
        return await self._objects.exists(key)
