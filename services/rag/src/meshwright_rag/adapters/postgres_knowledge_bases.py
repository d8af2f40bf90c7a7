"""Knowledge bases in PostgreSQL."""

from collections.abc import Sequence
from typing import Final

import asyncpg

from meshwright_common.context import principal
from meshwright_common.errors import InvalidArgument
from meshwright_common.ids import new_id, parse_id
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_rag.domain.errors import KeyReused, KnowledgeBaseExists, KnowledgeBaseNotFound
from meshwright_rag.domain.models import DEFAULT_KNOWLEDGE_BASE, KnowledgeBase, WorkKind

_FIELDS: Final = """
    k.tenant_id, k.id, k.name, k.description, k.embedding_model, k.vector_length, k.created_at,
    (SELECT count(*) FROM documents d
      WHERE d.tenant_id = k.tenant_id AND d.knowledge_base_id = k.id AND d.deleted_at IS NULL)
    AS document_count
"""


class PostgresKnowledgeBases:
    """Implements `KnowledgeBases`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, tenant_id: str, name: str, *, description: str, embedding_model: str, request_id: str
    ) -> KnowledgeBase:
        if name == DEFAULT_KNOWLEDGE_BASE:
            raise KnowledgeBaseExists(name=name)
        async with unit_of_work(self._database, tenant_id) as connection:
            try:
                # house: own-transaction: savepoint inside the unit of work
                async with connection.transaction():
                    created = await connection.fetchval(
                        """
                        INSERT INTO knowledge_bases
                               (tenant_id, id, name, description, embedding_model, request_id)
                        VALUES ($1, $2, $3, $4, $5, nullif($6, ''))
                        ON CONFLICT (tenant_id, request_id) WHERE request_id IS NOT NULL DO NOTHING
                        RETURNING id
                        """,
                        tenant_id, new_id(), name, description, embedding_model, request_id,
                    )  # fmt: skip
            except asyncpg.UniqueViolationError as error:
                raise KnowledgeBaseExists(name=name) from error
            row = await connection.fetchrow(
                f"SELECT {_FIELDS} FROM knowledge_bases k"  # noqa: S608 - a constant of ours
                " WHERE k.tenant_id = $1 AND (k.id = $2 OR ($2 IS NULL AND k.request_id = $3))",
                tenant_id, created, request_id,
            )  # fmt: skip
        if row is None:
            raise KnowledgeBaseExists(name=name)
        told = (row["name"], row["description"], row["embedding_model"])
        if told != (name, description, embedding_model):
            raise KeyReused(request_id=request_id)
        return _knowledge_base(row)

    async def find(self, tenant_id: str, knowledge_base: str) -> KnowledgeBase:
        found = await self.find_all(tenant_id, (knowledge_base,))
        return found[0]

    async def find_all(
        self, tenant_id: str, knowledge_bases: Sequence[str]
    ) -> Sequence[KnowledgeBase]:
        wanted = list(dict.fromkeys(_named(one) for one in knowledge_bases or ("",)))
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await _select(connection, tenant_id, wanted)
            if DEFAULT_KNOWLEDGE_BASE in wanted and not any(
                row["name"] == DEFAULT_KNOWLEDGE_BASE for row in rows
            ):
                await connection.execute(
                    "INSERT INTO knowledge_bases (tenant_id, id, name) VALUES ($1, $2, $3)"
                    " ON CONFLICT (tenant_id, name) WHERE deleted_at IS NULL DO NOTHING",
                    tenant_id, new_id(), DEFAULT_KNOWLEDGE_BASE,
                )  # fmt: skip
                rows = await _select(connection, tenant_id, wanted)
        found = {str(row["id"]): _knowledge_base(row) for row in rows}
        found |= {one.name: one for one in found.values() if one.name == DEFAULT_KNOWLEDGE_BASE}
        for one in wanted:
            if one not in found:
                raise KnowledgeBaseNotFound(knowledge_base=one)
        return list({found[one].knowledge_base_id: found[one] for one in wanted}.values())

    async def page(
        self, tenant_id: str, *, size: int, after: str | None
    ) -> Sequence[KnowledgeBase]:
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(
                f"""
                SELECT {_FIELDS} FROM knowledge_bases k
                 WHERE k.tenant_id = $1 AND k.deleted_at IS NULL
                   AND ($2::text IS NULL OR k.name > $2)
                 ORDER BY k.name LIMIT $3
                """,  # noqa: S608 - a constant of ours
                tenant_id, after, size,
            )  # fmt: skip
        return [_knowledge_base(row) for row in rows]

    async def delete(self, tenant_id: str, knowledge_base_id: str) -> None:
        async with unit_of_work(self._database, tenant_id) as connection:
            deleted = await connection.fetchval(
                "UPDATE knowledge_bases SET deleted_at = now()"
                " WHERE tenant_id = $1 AND deleted_at IS NULL"
                "   AND (id::text = $2 OR (name = $2 AND $2 = 'default')) RETURNING id",
                tenant_id, knowledge_base_id,
            )  # fmt: skip
            if deleted is None:
                return
            await connection.execute(
                """
                WITH gone AS (
                    UPDATE documents SET state = 'deleted', deleted_at = now(), updated_at = now(),
                           deleted_by = $6
                     WHERE tenant_id = $1 AND knowledge_base_id = $2 AND deleted_at IS NULL
                    RETURNING id
                ), stopped AS (
                    DELETE FROM work WHERE tenant_id = $1 AND kind = $3
                       AND subject_id IN (SELECT id FROM gone)
                    RETURNING subject_id, leased_until
                )
                INSERT INTO work (tenant_id, kind, subject_id, available_at)
                -- Whoever indexes them is stopped by then: nothing is put into an index after it.
                SELECT $1, $4, id, greatest(now(), leased_until)
                  FROM gone LEFT JOIN stopped ON subject_id = id
                 UNION ALL SELECT $1, $5, $2, now()
                ON CONFLICT (tenant_id, kind, subject_id) DO NOTHING
                """,
                tenant_id, deleted,
                WorkKind.INDEX, WorkKind.ERASE_DOCUMENT, WorkKind.ERASE_KNOWLEDGE_BASE,
                principal().subject,
            )  # fmt: skip


def _named(knowledge_base: str) -> str:
    """Return a canonical id, or the name of the default one. Raises: InvalidArgument."""
    if knowledge_base in {"", DEFAULT_KNOWLEDGE_BASE}:
        return DEFAULT_KNOWLEDGE_BASE
    try:
        return parse_id(knowledge_base, "knowledge_base_id")
    except InvalidArgument as error:
        raise KnowledgeBaseNotFound(knowledge_base=knowledge_base[:100]) from error


async def _select(
    connection: Connection, tenant_id: str, wanted: Sequence[str]
) -> Sequence[Record]:
    ids = [one for one in wanted if one != DEFAULT_KNOWLEDGE_BASE]
    name = DEFAULT_KNOWLEDGE_BASE if len(ids) < len(wanted) else None
    return await connection.fetch(
        f"SELECT {_FIELDS} FROM knowledge_bases k"  # noqa: S608 - a constant of ours
        " WHERE k.tenant_id = $1 AND k.deleted_at IS NULL AND (k.id = ANY ($2) OR k.name = $3)",
        tenant_id, ids, name,
    )  # fmt: skip


def _knowledge_base(row: Record) -> KnowledgeBase:
    return KnowledgeBase(
        tenant_id=row["tenant_id"],
        knowledge_base_id=row["id"],
        name=row["name"],
        description=row["description"],
        embedding_model=row["embedding_model"],
        vector_length=row["vector_length"],
        document_count=row["document_count"],
        created_at=row["created_at"],
    )
