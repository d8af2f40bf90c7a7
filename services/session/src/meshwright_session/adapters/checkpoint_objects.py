"""Checkpoints of the audit log in object storage: one small object each, locked where it can be."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Final

from meshwright_common.storage.objects import ObjectNotFound, ObjectStore, object_key
from meshwright_session.domain.audit_checkpoints import Checkpoint

_FOLDER: Final = ("audit", "checkpoints")
_DIGITS: Final = 12
_SUFFIX: Final = ".json"


class CheckpointObjects:
    """`CheckpointVault` in an object store."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    async def put(self, checkpoint: Checkpoint, *, keep_until: datetime) -> bool:
        text = await self.text(checkpoint.tenant_id, checkpoint.number)
        if text is not None:
            # What stands there may be all that proves a log that was set back since.
            return text == checkpoint.object_text
        key = _key(checkpoint.tenant_id, checkpoint.number)
        await self._objects.put(key, _once(checkpoint.object_text.encode()), keep_until=keep_until)
        return True

    async def text(self, tenant_id: str, number: int) -> str | None:
        opened = self._objects.open(_key(tenant_id, number))
        try:
            content = b"".join([piece async for piece in opened])
        except ObjectNotFound:
            return None
        return content.decode("utf-8", errors="replace")

    async def numbers(self, tenant_id: str, after: int, limit: int) -> Sequence[int]:
        folder = object_key(tenant_id, *_FOLDER)
        keys = await self._objects.keys(folder, most=limit, after=_key(tenant_id, after))
        names = [key.rpartition("/")[2].removesuffix(_SUFFIX) for key in keys]
        return [int(name) for name in names if name.isdecimal()]

    async def remove(self, tenant_id: str, number: int) -> None:
        await self._objects.delete(_key(tenant_id, number))


def _key(tenant_id: str, number: int) -> str:
    return object_key(tenant_id, *_FOLDER, f"{number:0{_DIGITS}}{_SUFFIX}")


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
