"""Making a stored file searchable, so that a crash at any point costs time and nothing else.

A run builds a generation of the index that no search sees, batch by batch; the last step makes it
the one that answers. A later attempt goes on with what an earlier one stored.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Final

from meshwright_common import context
from meshwright_common.context import CallContext, Principal
from meshwright_common.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServiceError,
    Unimplemented,
)
from meshwright_rag.domain.chunking import ChunkSizes
from meshwright_rag.domain.errors import DocumentLimit
from meshwright_rag.domain.models import IndexTask, Lease, NewPassage, Stage
from meshwright_rag.domain.parsed import ParseLimits
from meshwright_rag.domain.ports import Embedder, Files, Indexing, Reader, Reading

SERVICE: Final = "rag"
EMBED_PERMISSIONS: Final = frozenset({"model:invoke"})


PERMANENT: Final = (
    DocumentLimit,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unimplemented,
)
"""What fails again with the same file and the same settings: not worth another attempt."""


class Indexer:
    """Does `WorkKind.INDEX`. `embed_batch`: texts in one call to the embedding model."""

    def __init__(
        self,
        *,
        indexing: Indexing,
        files: Files,
        reader: Reader,
        embedder: Embedder,
        limits: ParseLimits,
        sizes: ChunkSizes,
        embed_batch: int,
    ) -> None:
        self._indexing = indexing
        self._files = files
        self._reader = reader
        self._embedder = embedder
        self._limits = limits
        self._sizes = sizes
        self._embed_batch = embed_batch

    async def run(self, lease: Lease) -> None:
        """Index the document of the lease. What cannot be indexed is marked as failed.

        Raises: LeaseLost; any other ServiceError for what may succeed when it is done again.
        """
        task = await self._indexing.begin(lease)
        with context.bind(_on_behalf_of(lease.tenant_id, task.uploaded_by)):
            if not task.published:
                try:
                    await self._build(lease, task)
                except PERMANENT as error:
                    await self.give_up(lease, error)
                    return
            for key in await self._indexing.replaced_objects(lease):
                await self._files.delete(key)
            await self._indexing.finish(lease, task)

    async def give_up(self, lease: Lease, error: ServiceError) -> None:
        """Mark the document as failed for this reason. Raises: LeaseLost."""
        await self._indexing.fail(lease, reason=error.reason, message=error.message)

    async def _build(self, lease: Lease, task: IndexTask) -> None:
        await self._indexing.note(lease, Stage.PARSING)
        async with (
            self._files.local_copy(task.object_key, sha256=task.sha256) as path,
            self._reader.read(
                path, task.media_type, limits=self._limits, sizes=self._sizes
            ) as reading,
        ):
            await self._indexing.note(lease, Stage.EMBEDDING, reading.outline)
            stored = await self._indexing.stored(lease, task)
            async for passages in self._batches(reading):
                missing = [one for one in passages if one.ordinal not in stored]
                if missing:
                    await self._add(lease, task, missing)
        await self._indexing.note(lease, Stage.WRITING)
        await self._indexing.publish(lease, task, reading.outline)

    async def _batches(self, reading: Reading) -> AsyncIterator[Sequence[NewPassage]]:
        async for read in reading.batches:
            for start in range(0, len(read), self._embed_batch):
                yield read[start : start + self._embed_batch]

    async def _add(self, lease: Lease, task: IndexTask, passages: Sequence[NewPassage]) -> None:
        texts = [one.text_to_embed(task.name) for one in passages]
        embedded = await self._embedder.embed(task.embedding_model, texts, purpose="indexing")
        await self._indexing.fix_vectors(lease, task, embedded.model, len(embedded.vectors[0]))
        await self._indexing.add(lease, task, passages, embedded.vectors)


def _on_behalf_of(tenant_id: str, subject: str) -> CallContext:
    """Return the context of calls made for whoever uploaded the document: the usage is theirs."""
    call = context.service_context(SERVICE, tenant_id, EMBED_PERMISSIONS, timeout_seconds=None)
    uploader = Principal(
        tenant_id, subject or SERVICE, "user" if subject else "service", EMBED_PERMISSIONS
    )
    return replace(call, principal=uploader)
