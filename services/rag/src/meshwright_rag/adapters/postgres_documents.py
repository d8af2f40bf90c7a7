"""Documents in PostgreSQL: reading, deleting, asking for a new index."""

from collections.abc import Sequence

from meshwright_common.context import principal
from meshwright_common.quotas import Quotas
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import retry_conflicts, unit_of_work
from meshwright_rag.adapters.document_events import announce, record
from meshwright_rag.adapters.document_rows import FIELDS, document, object_id, want_new_index
from meshwright_rag.adapters.postgres_admission import Admission
from meshwright_rag.adapters.storage_quota import stored
from meshwright_rag.domain.models import Document, StoredFile, Upload, UploadHeader, WorkKind


class PostgresDocuments:
    """Implements `Documents`. `orphan_seconds`: how long stored bytes may wait for a document."""

    def __init__(self, database: Database, quotas: Quotas, *, orphan_seconds: float) -> None:
        self._database = database
        self._quotas = quotas
        self._orphan_seconds = orphan_seconds

    async def reserve(self, tenant_id: str, object_key: str) -> None:
        (await self._quotas.of(tenant_id)).refuse_inactive()
        async with unit_of_work(self._database, tenant_id) as connection:
            await connection.execute(
                """
                INSERT INTO work (tenant_id, kind, subject_id, object_key, available_at)
                VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5))
                """,
                tenant_id, WorkKind.DISCARD_OBJECT, object_id(object_key), object_key,
                self._orphan_seconds,
            )  # fmt: skip

    async def admit(self, tenant_id: str, header: UploadHeader, file: StoredFile) -> Upload:
        quota = await self._quotas.of(tenant_id)

        async def attempt() -> Upload:
            async with unit_of_work(self._database, tenant_id) as connection:
                return await Admission(connection, quota, header, file).run()

        return await retry_conflicts(attempt)

    async def use(self, tenant_id: str) -> tuple[int, int]:
        async with unit_of_work(self._database, tenant_id) as connection:
            return await stored(connection, tenant_id)

    async def get(self, tenant_id: str, document_id: str) -> Document:
        async with unit_of_work(self._database, tenant_id) as connection:
            row = await connection.fetchrow(
                f"SELECT {FIELDS} FROM documents"  # noqa: S608 - a constant of ours
                " WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL",
                tenant_id, document_id,
            )  # fmt: skip
        return document(row, document_id)

    async def get_all(self, tenant_id: str, document_ids: Sequence[str]) -> Sequence[Document]:
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(
                f"SELECT {FIELDS} FROM documents WHERE tenant_id = $1 AND id = ANY ($2)",  # noqa: S608
                tenant_id, list(document_ids),
            )  # fmt: skip
        return [document(row) for row in rows]

    async def page(
        self, tenant_id: str, knowledge_base_id: str, *, size: int, before: str | None
    ) -> Sequence[Document]:
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(
                f"""
                SELECT {FIELDS} FROM documents
                 WHERE tenant_id = $1 AND knowledge_base_id = $2 AND deleted_at IS NULL
                   AND ($3::uuid IS NULL OR id < $3)
                 ORDER BY id DESC LIMIT $4
                """,  # noqa: S608 - a constant of ours
                tenant_id, knowledge_base_id, before, size,
            )  # fmt: skip
        return [document(row) for row in rows]

    async def delete(self, tenant_id: str, document_id: str) -> None:
        # Beside the deletion of its whole base, one of the two comes second.
        await retry_conflicts(lambda: self._delete(tenant_id, document_id))

    async def _delete(self, tenant_id: str, document_id: str) -> None:
        async with unit_of_work(self._database, tenant_id) as connection:
            row = await connection.fetchrow(
                f"""
                UPDATE documents SET state = 'deleted', deleted_at = now(), updated_at = now(),
                       deleted_by = $3
                 WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL
                RETURNING {FIELDS}
                """,  # noqa: S608 - a constant of ours
                tenant_id, document_id, principal().subject,
            )  # fmt: skip
            if row is None:
                return
            # Whoever indexes it is stopped by then: nothing is put into an index after this.
            leased_until = await connection.fetchval(
                "DELETE FROM work WHERE tenant_id = $1 AND kind = $2 AND subject_id = $3"
                " RETURNING leased_until",
                tenant_id, WorkKind.INDEX, document_id,
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO work (tenant_id, kind, subject_id, available_at)"
                " VALUES ($1, $2, $3, greatest(now(), $4))"
                " ON CONFLICT (tenant_id, kind, subject_id) DO NOTHING",
                tenant_id, WorkKind.ERASE_DOCUMENT, document_id, leased_until,
            )  # fmt: skip
            await announce(connection, "document.deleted", document(row))
            await record(connection, "document.deleted", document(row))

    async def reindex(self, tenant_id: str, document_id: str) -> Document:
        async with unit_of_work(self._database, tenant_id) as connection:
            wanted = await want_new_index(connection, tenant_id, document_id)
            await announce(connection, "document.index.requested", wanted)
        return wanted
