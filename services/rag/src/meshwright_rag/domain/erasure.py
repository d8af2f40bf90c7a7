"""Removing what deleted things left behind. They are invisible already; this frees the space."""

from typing import Final

from meshwright_rag.domain.errors import FileNotRemoved
from meshwright_rag.domain.models import Lease, WorkKind
from meshwright_rag.domain.ports import Erasing, Files, WorkQueue

WAIT_FOR_DOCUMENTS_SECONDS: Final = 1.0
"""How soon an emptied knowledge base is looked at again while documents are left in it."""


class Eraser:
    """Does the kinds of work that remove things. Every step may be done twice."""

    def __init__(self, erasing: Erasing, files: Files, queue: WorkQueue) -> None:
        self._erasing = erasing
        self._files = files
        self._queue = queue

    async def run(self, lease: Lease) -> None:
        """Do the work of the lease. Raises: LeaseLost; Unavailable, to be done again."""
        if lease.kind is WorkKind.ERASE_DOCUMENT:
            # Files first: while the record is there, a crash forgets none of them.
            keys = await self._erasing.document_objects(lease)
            for key in keys:
                await self._files.delete(key)
                if await self._files.exists(key):
                    raise FileNotRemoved
            await self._erasing.erase_document(lease, len(keys))
        elif lease.kind is WorkKind.DISCARD_OBJECT:
            await self._files.delete(await self._erasing.abandoned_object(lease))
            await self._erasing.finish(lease)
        elif not await self._erasing.erase_knowledge_base(lease):
            await self._queue.release(lease, delay_seconds=WAIT_FOR_DOCUMENTS_SECONDS)
