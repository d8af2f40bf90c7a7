"""Everything that this service keeps of people in the database and as objects.

Knowledge bases belong to the tenant. A document is its uploader's: with the user go the documents
whose current version the user uploaded, unless they are to be kept. Indexes outside the database
are in `milvus_stores` and `elasticsearch_store`.
"""

from collections.abc import Callable, Sequence
from typing import Final

from meshwright_common.erasure.objects import StoredObjects
from meshwright_common.erasure.rows import StoredRows, affected, count_rows, patiently
from meshwright_common.erasure.stored import BATCH, StoredData, Subject, in_batches
from meshwright_common.storage.objects import ObjectStore
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unit_of_work, unscoped
from meshwright_rag.adapters.objects import FOLDER
from meshwright_rag.domain.ports import Documents


def stored_data(
    database: Database,
    documents: Documents,
    objects: ObjectStore,
    outside: Sequence[StoredData],
    nudge: Callable[[], None],
) -> tuple[StoredData, ...]:
    """Return the stores. `outside`: those of indexes outside; `nudge` wakes who removes documents.

    Rows by which something else is found come after it.
    """
    return (
        UploadedDocuments(database, documents, nudge),
        StoredRows(database, "rag.work"),
        *outside,
        StoredRows(database, "rag.passage_terms"),
        VectorRows(database, "rag.passage_vectors"),
        StoredRows(database, "rag.passages"),
        StoredObjects(objects, FOLDER),
        StoredRows(database, "rag.document_versions"),
        StoredRows(database, "rag.documents"),
        StoredRows(database, "rag.knowledge_bases"),
        StoredRows(database, "rag.quota_alerts"),
        VectorRows(database, "rag.memory_vectors", "user_id = $2"),
    )


class UploadedDocuments:
    """Documents of a user: deleted as by DeleteDocument, whose worker empties every index.

    Until it has, they remain. What others have uploaded over since keeps no word of the user.
    """

    name = "rag.uploaded_documents"

    def __init__(self, database: Database, documents: Documents, nudge: Callable[[], None]) -> None:
        self._database = database
        self._documents = documents
        self._nudge = nudge

    async def erase(self, subject: Subject) -> int:
        if not subject.user_id:
            # As of everybody, from each store by itself.
            return 0
        removed = 0 if subject.keep_documents else await in_batches(lambda: self._delete(subject))
        if removed:
            self._nudge()
        return removed + await in_batches(lambda: self._disown(subject))

    async def remaining(self, subject: Subject) -> int:
        if not subject.user_id:
            return 0
        async with unit_of_work(self._database, subject.tenant_id) as connection:
            documents = await count_rows(connection, f"rag.documents WHERE {_THEIRS}", subject)
            versions = await count_rows(
                connection, f"rag.document_versions WHERE {_THEIRS}", subject
            )
        return documents + versions

    async def _delete(self, subject: Subject) -> int:
        async with unit_of_work(self._database, subject.tenant_id) as connection:
            rows = await connection.fetch(_UPLOADED, subject.tenant_id, subject.user_id, BATCH)
        for row in rows:
            await self._documents.delete(subject.tenant_id, row["id"])
        return len(rows)

    async def _disown(self, subject: Subject) -> int:
        """Take the user's name from what stays; return from how much."""
        disowned = 0
        async with unit_of_work(self._database, subject.tenant_id) as connection:
            await patiently(connection)
            for statement in (_DISOWN_VERSIONS, _DISOWN_DOCUMENTS):
                disowned += affected(
                    await connection.execute(
                        statement,
                        subject.tenant_id,
                        subject.user_id,
                        subject.keep_documents,
                        BATCH,
                    )
                )
        return disowned


class VectorRows(StoredRows):
    """Rows of a table that is only there where the server has pgvector."""

    def __init__(self, database: Database, table: str, of_user: str = "") -> None:
        super().__init__(database, table, of_user)
        self._server = database

    async def erase(self, subject: Subject) -> int:
        return await super().erase(subject) if await self._exists() else 0

    async def remaining(self, subject: Subject) -> int:
        return await super().remaining(subject) if await self._exists() else 0

    async def _exists(self) -> bool:
        async with unscoped(self._server) as connection:
            return bool(await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", self.name))


_THEIRS: Final = "tenant_id = $1 AND uploaded_by = $2"

_UPLOADED: Final = """
SELECT id FROM documents
 WHERE tenant_id = $1 AND uploaded_by = $2 AND deleted_at IS NULL LIMIT $3
"""

# Of a document that is being removed everything goes: its versions are left to that.
_DISOWN_VERSIONS: Final = """
UPDATE document_versions AS v SET uploaded_by = ''
 WHERE v.tenant_id = $1
   AND (v.document_id, v.version) IN (
        SELECT o.document_id, o.version
          FROM document_versions AS o JOIN documents AS d
            ON d.tenant_id = $1 AND d.id = o.document_id
         WHERE o.tenant_id = $1 AND o.uploaded_by = $2 AND d.deleted_at IS NULL
           AND ($3 OR d.uploaded_by <> $2)
         LIMIT $4)
"""

_DISOWN_DOCUMENTS: Final = """
UPDATE documents AS d SET uploaded_by = ''
 WHERE d.tenant_id = $1 AND $3
   AND d.id IN (SELECT o.id FROM documents AS o
                 WHERE o.tenant_id = $1 AND o.uploaded_by = $2 AND o.deleted_at IS NULL LIMIT $4)
"""
