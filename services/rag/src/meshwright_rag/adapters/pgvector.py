"""Vectors in PostgreSQL with pgvector: exact search, so recall is 1."""

from collections.abc import Sequence
from typing import Final

from meshwright_common.errors import FailedPrecondition
from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import unit_of_work, unscoped
from meshwright_rag.domain.models import IndexTask, NewPassage, PassageRef, SearchScope
from meshwright_rag.domain.ports import Vector


class VectorsNotInstalled(FailedPrecondition):
    """The database has no pgvector."""

    text = (
        "the database has no table passage_vectors: install pgvector on the server before the"
        " first migration, or configure another vector index"
    )


class PgVectorIndex:
    """Implements `VectorIndex`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def probe(self) -> None:
        """Raises: VectorsNotInstalled; Unavailable."""
        async with unscoped(self._database) as connection:
            if not await connection.fetchval("SELECT to_regclass('passage_vectors') IS NOT NULL"):
                raise VectorsNotInstalled()

    async def search(
        self, scope: SearchScope, vector: Vector, *, most: int
    ) -> Sequence[PassageRef]:
        async with unit_of_work(self._database, scope.tenant_id) as connection:
            rows = await connection.fetch(
                _SEARCH, scope.tenant_id, list(scope.knowledge_base_ids),
                list(scope.document_ids), dict(scope.metadata_filter), list(vector), len(vector),
                most,
            )  # fmt: skip
        return [PassageRef(row["document_id"], row["generation"], row["ordinal"]) for row in rows]


_SEARCH: Final = """
    -- Both steps are materialised: with an index on the vectors the planner would look for
    -- neighbours among all tenants first and filter afterwards, and find next to nothing.
    WITH live AS MATERIALIZED (
        SELECT d.id, d.live_generation FROM documents AS d
         WHERE d.tenant_id = $1 AND d.knowledge_base_id = ANY ($2::uuid[])
           AND d.live_generation IS NOT NULL AND d.deleted_at IS NULL AND d.metadata @> $4
           AND (cardinality($3::uuid[]) = 0 OR d.id = ANY ($3))
    ), near AS MATERIALIZED (
        SELECT v.document_id, v.generation, v.ordinal,
               v.embedding <=> $5::real[]::public.vector AS distance
          FROM live
          JOIN passage_vectors AS v
            ON v.tenant_id = $1 AND v.document_id = live.id AND v.generation = live.live_generation
         WHERE public.vector_dims(v.embedding) = $6
    )
    SELECT document_id, generation, ordinal FROM near
     ORDER BY distance, document_id, ordinal LIMIT $7
"""


async def put_vectors(
    connection: Connection,
    tenant_id: str,
    task: IndexTask,
    passages: Sequence[NewPassage],
    vectors: Sequence[Vector],
) -> None:
    """Store the vectors of passages in the open transaction. Idempotent."""
    await connection.executemany(
        """
        INSERT INTO passage_vectors (tenant_id, document_id, generation, ordinal, embedding)
        VALUES ($1, $2, $3, $4, $5::real[]::public.vector)
        ON CONFLICT (tenant_id, document_id, generation, ordinal)
        DO UPDATE SET embedding = excluded.embedding
        """,
        [
            (tenant_id, task.document_id, task.generation, passage.ordinal, list(vector))
            for passage, vector in zip(passages, vectors, strict=True)
        ],
    )
