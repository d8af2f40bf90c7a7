"""Removing deleted documents and knowledge bases from PostgreSQL, indexes included."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from meshwright_common.erasure.rows import affected
from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_rag.adapters import postgres_work
from meshwright_rag.adapters.document_receipts import DocumentReceipts, Gone
from meshwright_rag.adapters.indexes import tables_with_passages
from meshwright_rag.domain.models import Lease
from meshwright_rag.domain.ports import PassageIndex


class PostgresErasing:
    """Implements `Erasing`. `outside`: indexes that are emptied before the database forgets."""

    def __init__(
        self, database: Database, outside: Sequence[PassageIndex], receipts: DocumentReceipts
    ) -> None:
        self._database = database
        self._outside = outside
        self._receipts = receipts

    @asynccontextmanager
    async def _holding(self, lease: Lease) -> AsyncIterator[Connection]:
        async with unit_of_work(self._database, lease.tenant_id) as connection:
            await postgres_work.hold(connection, lease)
            yield connection

    async def document_objects(self, lease: Lease) -> Sequence[str]:
        async with self._holding(lease) as connection:
            rows = await connection.fetch(
                "SELECT object_key FROM document_versions"
                " WHERE tenant_id = $1 AND document_id = $2 AND object_key <> ''",
                lease.tenant_id, lease.subject_id,
            )  # fmt: skip
        return [row["object_key"] for row in rows]

    async def erase_document(self, lease: Lease, objects: int) -> None:
        removed = {"objects:documents": objects}
        for index in self._outside:
            # Looks itself, and raises when something is left.
            removed[index.store] = await index.discard(lease.tenant_id, lease.subject_id)
        async with self._holding(lease) as connection:
            for table in (*await tables_with_passages(connection), "document_versions"):
                status = await connection.execute(
                    f"DELETE FROM {table} WHERE tenant_id = $1 AND document_id = $2",  # noqa: S608
                    lease.tenant_id, lease.subject_id,
                )  # fmt: skip
                removed[f"rag.{table}"] = affected(status)
            gone = await connection.fetchrow(
                "DELETE FROM documents"
                " WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NOT NULL"
                " RETURNING deleted_by, deleted_at",
                lease.tenant_id, lease.subject_id,
            )  # fmt: skip
            if gone is not None:
                removed["rag.documents"] = 1
                await self._receipts.tell(
                    connection,
                    Gone(
                        lease.tenant_id,
                        lease.subject_id,
                        gone["deleted_by"],
                        gone["deleted_at"],
                        removed,
                    ),
                )
            await postgres_work.finish(connection, lease)

    async def erase_knowledge_base(self, lease: Lease) -> bool:
        async with self._holding(lease) as connection:
            left = await connection.fetchval(
                "SELECT EXISTS (SELECT FROM documents"
                " WHERE tenant_id = $1 AND knowledge_base_id = $2)",
                lease.tenant_id, lease.subject_id,
            )  # fmt: skip
            if left:
                return False
            await connection.execute(
                "DELETE FROM knowledge_bases"
                " WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NOT NULL",
                lease.tenant_id, lease.subject_id,
            )  # fmt: skip
            await postgres_work.finish(connection, lease)
        return True

    async def abandoned_object(self, lease: Lease) -> str:
        async with self._holding(lease) as connection:
            key = await connection.fetchval(
                "SELECT object_key FROM work"
                " WHERE tenant_id = $1 AND kind = $2 AND subject_id = $3",
                lease.tenant_id, lease.kind, lease.subject_id,
            )  # fmt: skip
        return str(key)

    async def finish(self, lease: Lease) -> None:
        async with self._holding(lease) as connection:
            await postgres_work.finish(connection, lease)
