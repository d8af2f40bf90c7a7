"""Vectors of memories in PostgreSQL with pgvector: exact search among those of one user."""

from collections.abc import Sequence
from typing import Final

from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_rag.domain.memory_ports import Memory, MemoryHit
from meshwright_rag.domain.ports import Vector


class PgVectorMemories:
    """Implements `MemoryVectors` on the table `memory_vectors`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(
        self, tenant_id: str, model: str, memories: Sequence[Memory], vectors: Sequence[Vector]
    ) -> None:
        async with unit_of_work(self._database, tenant_id) as connection:
            await connection.executemany(
                _PUT,
                [
                    (tenant_id, memory.user_id, memory.memory_id, model, list(vector))
                    for memory, vector in zip(memories, vectors, strict=True)
                ],
            )

    async def search(
        self, tenant_id: str, user_id: str, model: str, vector: Vector, *, most: int
    ) -> Sequence[MemoryHit]:
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(
                _SEARCH, tenant_id, user_id, model, list(vector), len(vector), most
            )
        return [MemoryHit(row["memory_id"], max(0.0, 1.0 - row["distance"])) for row in rows]

    async def remove(self, tenant_id: str, user_id: str, memory_ids: Sequence[str]) -> None:
        async with unit_of_work(self._database, tenant_id) as connection:
            await connection.execute(_REMOVE, tenant_id, user_id, list(memory_ids))


_PUT: Final = """
INSERT INTO memory_vectors (tenant_id, user_id, memory_id, model, embedding)
VALUES ($1, $2, $3, $4, $5::real[]::public.vector)
ON CONFLICT (tenant_id, memory_id) DO UPDATE
   SET user_id = excluded.user_id, model = excluded.model, embedding = excluded.embedding
"""

_SEARCH: Final = """
-- Materialised: with an index on the vectors the planner would look among everybody's first.
WITH theirs AS MATERIALIZED (
    SELECT memory_id, embedding <=> $4::real[]::public.vector AS distance
      FROM memory_vectors
     WHERE tenant_id = $1 AND user_id = $2 AND model = $3
       AND public.vector_dims(embedding) = $5
)
SELECT memory_id, distance FROM theirs ORDER BY distance, memory_id LIMIT $6
"""

_REMOVE: Final = """
DELETE FROM memory_vectors
 WHERE tenant_id = $1 AND user_id = $2
   AND (cardinality($3::uuid[]) = 0 OR memory_id = ANY ($3))
"""
