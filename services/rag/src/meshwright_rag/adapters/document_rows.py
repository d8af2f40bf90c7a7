"""How documents are read from and written to their table."""

from typing import Final

from meshwright_common.ids import new_id
from meshwright_common.storage.postgres import Connection, Record
from meshwright_rag.domain.errors import DocumentNotFound
from meshwright_rag.domain.media_types import MediaType
from meshwright_rag.domain.models import Document, DocumentState, Stage

FIELDS: Final = (
    "tenant_id, id, knowledge_base_id, name, media_type, size_bytes, sha256, version, state,"
    " failure_reason, failure_message, stage, chunks_done, chunks_total, page_count, chunk_count,"
    " metadata, created_at, updated_at"
)


def document(row: Record | None, document_id: str = "") -> Document:
    """Return the document of a row with FIELDS. Raises: DocumentNotFound when there is none."""
    if row is None:
        raise DocumentNotFound(document_id=document_id)
    return Document(
        tenant_id=row["tenant_id"],
        document_id=row["id"],
        knowledge_base_id=row["knowledge_base_id"],
        name=row["name"],
        media_type=MediaType(row["media_type"]),
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        version=row["version"],
        state=DocumentState(row["state"]),
        failure_reason=row["failure_reason"],
        failure_message=row["failure_message"],
        stage=Stage(row["stage"]),
        chunks_done=row["chunks_done"],
        chunks_total=row["chunks_total"],
        page_count=row["page_count"],
        chunk_count=row["chunk_count"],
        metadata=row["metadata"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def want_new_index(connection: Connection, tenant_id: str, document_id: str) -> Document:
    """Ask for another generation of the index. Raises: DocumentNotFound."""
    row = await connection.fetchrow(
        f"""
        UPDATE documents
           SET generation = $3, state = 'pending', stage = 'stored', failure_reason = '',
               failure_message = '', chunks_done = 0, chunks_total = 0, updated_at = now()
         WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL
        RETURNING {FIELDS}
        """,  # noqa: S608 - a constant of ours
        tenant_id, document_id, new_id(),
    )  # fmt: skip
    return document(row, document_id)


def object_id(object_key: str) -> str:
    """Return the UUID that ends the key of an uploaded object."""
    return object_key.rpartition("/")[2]
