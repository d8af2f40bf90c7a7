"""The bookkeeping of indexing runs in PostgreSQL, every write fenced by its lease."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.telemetry.logging import get_logger
from meshwright_rag.adapters import postgres_work
from meshwright_rag.adapters.document_events import announce, tell_uploader
from meshwright_rag.adapters.document_rows import FIELDS, document
from meshwright_rag.adapters.indexes import PASSAGES, Indexes, tables_with_passages
from meshwright_rag.domain.errors import (
    IndexIncomplete,
    IndexUnavailable,
    LeaseLost,
    VectorsDiffer,
)
from meshwright_rag.domain.media_types import MediaType
from meshwright_rag.domain.models import IndexTask, Lease, NewPassage, Outline, Stage
from meshwright_rag.domain.ports import Vector

logger = get_logger(__name__)


class PostgresIndexing:
    """Implements `Indexing`, with the embedded indexes in the same transactions."""

    def __init__(self, database: Database, indexes: Indexes) -> None:
        self._database = database
        self._indexes = indexes

    @asynccontextmanager
    async def _holding(self, lease: Lease) -> AsyncIterator[Connection]:
        async with unit_of_work(self._database, lease.tenant_id) as connection:
            await postgres_work.hold(connection, lease)
            yield connection

    async def begin(self, lease: Lease) -> IndexTask:
        async with self._holding(lease) as connection:
            row = await connection.fetchrow(
                """
                UPDATE documents AS d
                   SET state = CASE WHEN d.live_generation = d.generation THEN d.state
                                    ELSE 'indexing' END,
                       updated_at = now()
                  FROM work AS w, knowledge_bases AS k
                 WHERE d.tenant_id = $1 AND d.id = $2 AND d.deleted_at IS NULL
                   AND w.tenant_id = $1 AND w.kind = $3 AND w.subject_id = $2
                   AND w.generation = d.generation
                   AND k.tenant_id = $1 AND k.id = d.knowledge_base_id
                RETURNING d.id, d.knowledge_base_id, d.name, d.media_type, d.object_key,
                          d.sha256, d.generation, d.uploaded_by, k.embedding_model,
                          d.live_generation IS NOT DISTINCT FROM d.generation AS published
                """,
                lease.tenant_id, lease.subject_id, lease.kind,
            )  # fmt: skip
        if row is None:
            raise LeaseLost()
        return IndexTask(
            document_id=row["id"],
            knowledge_base_id=row["knowledge_base_id"],
            name=row["name"],
            media_type=MediaType(row["media_type"]),
            object_key=row["object_key"],
            sha256=row["sha256"],
            generation=row["generation"],
            embedding_model=row["embedding_model"],
            uploaded_by=row["uploaded_by"],
            published=row["published"],
        )

    async def note(self, lease: Lease, stage: Stage, outline: Outline | None = None) -> None:
        async with self._holding(lease) as connection:
            await connection.execute(
                """
                UPDATE documents
                   SET stage = $3, updated_at = now(),
                       page_count = coalesce($4, page_count),
                       chunks_total = coalesce($5, chunks_total)
                 WHERE tenant_id = $1 AND id = $2
                """,
                lease.tenant_id, lease.subject_id, stage,
                outline and outline.page_count, outline and outline.passage_count,
            )  # fmt: skip

    async def stored(self, lease: Lease, task: IndexTask) -> frozenset[int]:
        joined = " ".join(
            f"JOIN {table} USING (tenant_id, document_id, generation, ordinal)"
            for table in self._indexes.tables
        )
        async with self._holding(lease) as connection:
            rows = await connection.fetch(
                f"SELECT p.ordinal FROM passages AS p {joined}"  # noqa: S608 - constants of ours
                " WHERE p.tenant_id = $1 AND p.document_id = $2 AND p.generation = $3",
                lease.tenant_id, task.document_id, task.generation,
            )  # fmt: skip
        return frozenset(row["ordinal"] for row in rows)

    async def fix_vectors(self, lease: Lease, task: IndexTask, model: str, length: int) -> None:
        async with self._holding(lease) as connection:
            row = await connection.fetchrow(
                """
                UPDATE knowledge_bases
                   SET embedding_model = CASE WHEN vector_length IS NULL THEN $3
                                              ELSE embedding_model END,
                       vector_length = coalesce(vector_length, $4)
                 WHERE tenant_id = $1 AND id = $2
                RETURNING embedding_model, vector_length
                """,
                lease.tenant_id, task.knowledge_base_id, model, length,
            )  # fmt: skip
        if row is None:
            raise LeaseLost()
        held, held_length = row["embedding_model"], row["vector_length"]
        if (held, held_length) != (model, length):
            raise VectorsDiffer(held=f"{held} ({held_length})", made=f"{model} ({length})")

    async def add(
        self,
        lease: Lease,
        task: IndexTask,
        passages: Sequence[NewPassage],
        vectors: Sequence[Vector],
    ) -> None:
        for index in self._indexes.outside:
            await index.put(lease.tenant_id, task, passages, vectors)
        try:
            async with self._holding(lease) as connection:
                await _put_passages(connection, lease.tenant_id, task, passages)
                for put in self._indexes.tables.values():
                    await put(connection, lease.tenant_id, task, passages, vectors)
                await connection.execute(
                    "UPDATE documents SET chunks_done = $3, stage = $4, updated_at = now()"
                    " WHERE tenant_id = $1 AND id = $2",
                    lease.tenant_id, task.document_id, passages[-1].ordinal + 1, Stage.EMBEDDING,
                )  # fmt: skip
        except LeaseLost:
            await self._discard_unwanted(lease.tenant_id, task)
            raise

    async def _discard_unwanted(self, tenant_id: str, task: IndexTask) -> None:
        """Take back what was put outside for a document that was erased or is built anew."""
        if not self._indexes.outside:
            return
        async with unit_of_work(self._database, tenant_id) as connection:
            wanted = await connection.fetchval(
                "SELECT EXISTS (SELECT FROM documents WHERE tenant_id = $1 AND id = $2"
                " AND generation = $3 AND deleted_at IS NULL)",
                tenant_id, task.document_id, task.generation,
            )  # fmt: skip
        if not wanted:
            await self._discard(tenant_id, task.document_id, only=task.generation)

    async def _discard(
        self, tenant_id: str, document_id: str, *, only: str = "", but: str = ""
    ) -> None:
        for index in self._indexes.outside:
            await index.discard(tenant_id, document_id, only=only, but=but)

    async def publish(self, lease: Lease, task: IndexTask, outline: Outline) -> None:
        for index in self._indexes.outside:
            there = await index.count(lease.tenant_id, task)
            if there != outline.passage_count:
                await self._start_over(lease, task)
                raise IndexIncomplete(held=str(there), wanted=str(outline.passage_count))
        async with self._holding(lease) as connection:
            for table in self._indexes.kept_together:
                held = await connection.fetchval(
                    f"SELECT count(*) FROM {table}"  # noqa: S608 - a constant of ours
                    " WHERE tenant_id = $1 AND document_id = $2 AND generation = $3",
                    lease.tenant_id, task.document_id, task.generation,
                )  # fmt: skip
                if held != outline.passage_count:
                    raise IndexIncomplete(held=str(held), wanted=str(outline.passage_count))
            row = await connection.fetchrow(
                f"""
                UPDATE documents
                   SET state = 'ready', stage = 'done', live_generation = generation,
                       page_count = $4, chunk_count = $5, chunks_done = $5, chunks_total = $5,
                       failure_reason = '', failure_message = '', updated_at = now()
                 WHERE tenant_id = $1 AND id = $2 AND generation = $3 AND deleted_at IS NULL
                RETURNING {FIELDS}, uploaded_by
                """,  # noqa: S608 - a constant of ours
                lease.tenant_id, task.document_id, task.generation,
                outline.page_count, outline.passage_count,
            )  # fmt: skip
            if row is None:
                raise LeaseLost()
            await announce(connection, "document.index.completed", document(row))
            await tell_uploader(connection, document(row), row["uploaded_by"])

    async def _start_over(self, lease: Lease, task: IndexTask) -> None:
        """Forget what was stored of the generation: the next attempt stores all of it again."""
        async with self._holding(lease) as connection:
            await connection.execute(
                f"DELETE FROM {PASSAGES}"  # noqa: S608 - a constant of ours
                " WHERE tenant_id = $1 AND document_id = $2 AND generation = $3",
                lease.tenant_id, task.document_id, task.generation,
            )  # fmt: skip
        await self._discard(lease.tenant_id, task.document_id, only=task.generation)

    async def replaced_objects(self, lease: Lease) -> Sequence[str]:
        async with self._holding(lease) as connection:
            rows = await connection.fetch(
                """
                SELECT v.object_key FROM document_versions v
                  JOIN documents d ON d.tenant_id = v.tenant_id AND d.id = v.document_id
                 WHERE v.tenant_id = $1 AND v.document_id = $2
                   AND v.version < d.version AND v.object_key <> ''
                """,
                lease.tenant_id, lease.subject_id,
            )  # fmt: skip
        return [row["object_key"] for row in rows]

    async def finish(self, lease: Lease, task: IndexTask) -> None:
        await self._discard(lease.tenant_id, task.document_id, but=task.generation)
        async with self._holding(lease) as connection:
            for table in await tables_with_passages(connection):
                await connection.execute(
                    f"DELETE FROM {table}"  # noqa: S608 - a constant of ours
                    " WHERE tenant_id = $1 AND document_id = $2 AND generation <> $3",
                    lease.tenant_id, task.document_id, task.generation,
                )  # fmt: skip
            await connection.execute(
                """
                UPDATE document_versions v SET object_key = '' FROM documents d
                 WHERE v.tenant_id = $1 AND v.document_id = $2
                   AND d.tenant_id = $1 AND d.id = $2 AND v.version < d.version
                """,
                lease.tenant_id, task.document_id,
            )  # fmt: skip
            await postgres_work.finish(connection, lease)

    async def fail(self, lease: Lease, *, reason: str, message: str) -> None:
        async with self._holding(lease) as connection:
            row = await connection.fetchrow(
                f"""
                UPDATE documents
                   SET state = 'failed', failure_reason = $3, failure_message = $4,
                       updated_at = now()
                 WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL
                   AND generation = (SELECT generation FROM work
                                      WHERE tenant_id = $1 AND kind = $5 AND subject_id = $2)
                RETURNING {FIELDS}, generation, live_generation, uploaded_by
                """,  # noqa: S608 - a constant of ours
                lease.tenant_id, lease.subject_id, reason, message, lease.kind,
            )  # fmt: skip
            if row is None:
                raise LeaseLost()
            if row["generation"] != row["live_generation"]:
                for table in await tables_with_passages(connection):
                    await connection.execute(
                        f"DELETE FROM {table}"  # noqa: S608 - a constant of ours
                        " WHERE tenant_id = $1 AND document_id = $2 AND generation = $3",
                        lease.tenant_id, lease.subject_id, row["generation"],
                    )  # fmt: skip
            await postgres_work.finish(connection, lease)
            await announce(connection, "document.index.failed", document(row))
            await tell_uploader(connection, document(row), row["uploaded_by"])
        if row["generation"] != row["live_generation"]:
            try:
                await self._discard(lease.tenant_id, lease.subject_id, only=row["generation"])
            except IndexUnavailable as error:
                # No search shows them; the next index of the document, or its erasing, ends them.
                logger.warning("failed_index_left_behind", error=error.message)


async def _put_passages(
    connection: Connection, tenant_id: str, task: IndexTask, passages: Sequence[NewPassage]
) -> None:
    await connection.executemany(
        """
        INSERT INTO passages (tenant_id, document_id, generation, ordinal, id, text, page,
                              start_offset, end_offset, heading_path)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        ON CONFLICT (tenant_id, document_id, generation, ordinal)
        DO UPDATE SET text = excluded.text, page = excluded.page,
                      start_offset = excluded.start_offset, end_offset = excluded.end_offset,
                      heading_path = excluded.heading_path
        """,
        [
            (
                tenant_id, task.document_id, task.generation, one.ordinal,
                task.ref(one).chunk_id, one.text, one.page,
                one.start, one.end, list(one.heading_path),
            )
            for one in passages
        ],
    )  # fmt: skip
