"""Following documents until their indexing is over."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from meshwright_rag.domain.errors import DocumentNotFound
from meshwright_rag.domain.models import SETTLED, Document, DocumentState
from meshwright_rag.domain.ports import Documents


class IndexingWatch:
    """Tells what becomes of documents, looking every `poll_seconds`.

    The work may be done by any process, so the table is what is watched.
    """

    def __init__(self, documents: Documents, *, poll_seconds: float) -> None:
        self._documents = documents
        self._poll_seconds = poll_seconds

    async def follow(
        self, tenant_id: str, document_ids: Sequence[str]
    ) -> AsyncIterator[tuple[str, Document | None]]:
        """Yield id and document at once, and again after every change, until all are settled.

        None stands for a document that was deleted meanwhile. Raises: DocumentNotFound when one
        is not there at the start.
        """
        seen: dict[str, Document | None] = {}
        open_ids = list(dict.fromkeys(document_ids))
        first = True
        while open_ids:
            found = {
                one.document_id: one
                for one in await self._documents.get_all(tenant_id, open_ids)
                if one.state is not DocumentState.DELETED
            }
            for document_id in tuple(open_ids):
                document = found.get(document_id)
                if document is None and first:
                    raise DocumentNotFound(document_id=document_id)
                if first or document != seen.get(document_id):
                    seen[document_id] = document
                    yield document_id, document
                if document is None or document.state in SETTLED:
                    open_ids.remove(document_id)
            first = False
            if open_ids:
                await asyncio.sleep(self._poll_seconds)
