"""An upload becoming a document: new, the next version of one, or nothing new."""

from meshwright_common.context import principal
from meshwright_common.ids import new_id
from meshwright_common.quotas import TenantQuota
from meshwright_common.storage.postgres import Connection, Record
from meshwright_rag.adapters.document_events import announce, record
from meshwright_rag.adapters.document_rows import FIELDS, document, object_id, want_new_index
from meshwright_rag.adapters.storage_quota import make_room
from meshwright_rag.domain.errors import KeyReused, KnowledgeBaseNotFound
from meshwright_rag.domain.models import (
    Document,
    DocumentState,
    StoredFile,
    Upload,
    UploadHeader,
    WorkKind,
)


class Admission:
    """One upload becoming a document, inside one transaction."""

    def __init__(
        self, connection: Connection, quota: TenantQuota, header: UploadHeader, file: StoredFile
    ) -> None:
        self._connection = connection
        self._quota = quota
        self._tenant_id = quota.tenant_id
        self._header = header
        self._file = file
        self._caller = principal().subject

    async def run(self) -> Upload:
        # Uploads into one knowledge base take turns here: two of the same name cannot both be new.
        held = await self._connection.fetchval(
            "SELECT id FROM knowledge_bases"
            " WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL FOR NO KEY UPDATE",
            self._tenant_id, self._header.knowledge_base_id,
        )  # fmt: skip
        if held is None:
            raise KnowledgeBaseNotFound(knowledge_base=self._header.knowledge_base_id)
        repeated = await self._repeated_request()
        if repeated is not None:
            return Upload(repeated, duplicate=False)
        existing = await self._existing()
        if existing is None:
            return await self._new()
        if existing["sha256"] == self._file.sha256:
            return await self._duplicate(document(existing))
        return await self._next_version(existing)

    async def _repeated_request(self) -> Document | None:
        if not self._header.request_id:
            return None
        before = await self._connection.fetchrow(
            "SELECT document_id, sha256 FROM document_versions"
            " WHERE tenant_id = $1 AND request_id = $2",
            self._tenant_id, self._header.request_id,
        )  # fmt: skip
        if before is None:
            return None
        if before["sha256"] != self._file.sha256:
            raise KeyReused(request_id=self._header.request_id)
        row = await self._connection.fetchrow(
            f"SELECT {FIELDS} FROM documents"  # noqa: S608 - a constant of ours
            " WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL",
            self._tenant_id, before["document_id"],
        )  # fmt: skip
        return document(row, before["document_id"])

    async def _existing(self) -> Record | None:
        """Return the document of this name, else the oldest one with these bytes."""
        return await self._connection.fetchrow(
            f"""
            SELECT {FIELDS} FROM documents
             WHERE tenant_id = $1 AND knowledge_base_id = $2 AND deleted_at IS NULL
               AND (name = $3 OR sha256 = $4)
             ORDER BY name = $3 DESC, id LIMIT 1
            """,  # noqa: S608 - a constant of ours
            self._tenant_id, self._header.knowledge_base_id, self._header.name, self._file.sha256,
        )  # fmt: skip

    async def _duplicate(self, existing: Document) -> Upload:
        if self._header.metadata and existing.name == self._header.name:
            await self._connection.execute(
                "UPDATE documents SET metadata = $3, updated_at = now()"
                " WHERE tenant_id = $1 AND id = $2 AND metadata <> $3",
                self._tenant_id, existing.document_id, dict(self._header.metadata),
            )  # fmt: skip
        retried = existing.state is DocumentState.FAILED
        if retried:
            await want_new_index(self._connection, self._tenant_id, existing.document_id)
        row = await self._connection.fetchrow(
            f"SELECT {FIELDS} FROM documents WHERE tenant_id = $1 AND id = $2",  # noqa: S608
            self._tenant_id, existing.document_id,
        )  # fmt: skip
        current = document(row, existing.document_id)
        if retried:
            await announce(self._connection, "document.index.requested", current)
        # The bytes are there already: these copies can go at once.
        await self._connection.execute(
            "UPDATE work SET available_at = now()"
            " WHERE tenant_id = $1 AND kind = $2 AND subject_id = $3",
            self._tenant_id, WorkKind.DISCARD_OBJECT, object_id(self._file.object_key),
        )  # fmt: skip
        return Upload(current, duplicate=True)

    async def _new(self) -> Upload:
        size = self._file.size_bytes
        await make_room(self._connection, self._quota, documents=1, storage_bytes=size)
        row = await self._connection.fetchrow(
            f"""
            INSERT INTO documents (tenant_id, id, knowledge_base_id, name, media_type, size_bytes,
                                   sha256, object_key, metadata, generation, uploaded_by)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
            RETURNING {FIELDS}
            """,  # noqa: S608 - a constant of ours
            self._tenant_id, new_id(), self._header.knowledge_base_id, self._header.name,
            self._file.media_type, self._file.size_bytes, self._file.sha256, self._file.object_key,
            dict(self._header.metadata), new_id(), self._caller,
        )  # fmt: skip
        return await self._admitted(document(row))

    async def _next_version(self, existing: Record) -> Upload:
        more = self._file.size_bytes - existing["size_bytes"]
        await make_room(self._connection, self._quota, documents=0, storage_bytes=more)
        metadata = self._header.metadata or existing["metadata"]
        row = await self._connection.fetchrow(
            f"""
            UPDATE documents
               SET version = version + 1, media_type = $3, size_bytes = $4, sha256 = $5,
                   object_key = $6, metadata = $7, generation = $8, uploaded_by = $9,
                   state = 'pending', stage = 'stored', failure_reason = '', failure_message = '',
                   chunks_done = 0, chunks_total = 0, updated_at = now()
             WHERE tenant_id = $1 AND id = $2
            RETURNING {FIELDS}
            """,  # noqa: S608 - a constant of ours
            self._tenant_id, existing["id"], self._file.media_type, self._file.size_bytes,
            self._file.sha256, self._file.object_key, dict(metadata), new_id(), self._caller,
        )  # fmt: skip
        return await self._admitted(document(row))

    async def _admitted(self, admitted: Document) -> Upload:
        await self._connection.execute(
            """
            INSERT INTO document_versions (tenant_id, document_id, version, sha256, size_bytes,
                                           media_type, object_key, request_id, uploaded_by)
            VALUES ($1, $2, $3, $4, $5, $6, $7, nullif($8, ''), $9)
            """,
            self._tenant_id, admitted.document_id, admitted.version, self._file.sha256,
            self._file.size_bytes, self._file.media_type, self._file.object_key,
            self._header.request_id, self._caller,
        )  # fmt: skip
        await self._connection.execute(
            "DELETE FROM work WHERE tenant_id = $1 AND kind = $2 AND subject_id = $3",
            self._tenant_id, WorkKind.DISCARD_OBJECT, object_id(self._file.object_key),
        )  # fmt: skip
        await announce(self._connection, "document.index.requested", admitted)
        await record(self._connection, "document.uploaded", admitted)
        return Upload(admitted, duplicate=False)
