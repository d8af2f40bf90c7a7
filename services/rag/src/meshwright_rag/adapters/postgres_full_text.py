"""Full text in PostgreSQL: terms as the service cuts them, a GIN index, weights as in BM25."""

from collections.abc import Sequence
from typing import Final

from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.text.terms import prepare
from meshwright_rag.adapters.jieba_terms import query_terms, quoted
from meshwright_rag.domain.models import IndexTask, NewPassage, PassageRef, SearchScope
from meshwright_rag.domain.ports import Vector

MAX_QUERY_TERMS: Final = 32


class PostgresFullTextIndex:
    """Implements `FullTextIndex`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def search(self, scope: SearchScope, query: str, *, most: int) -> Sequence[PassageRef]:
        await prepare(query)
        asked = query_terms(query)
        words = [quoted(term) for term in asked.single[:MAX_QUERY_TERMS]]
        if not words:
            return []
        pairs = [
            f"{quoted(before)} <{distance}> {quoted(after)}"
            for before, distance, after in asked.pairs[:MAX_QUERY_TERMS]
        ]
        bases = [quoted(_base_term(one)) for one in scope.knowledge_base_ids]
        any_term = f"({' | '.join(bases)}) & ({' | '.join(words)})"
        async with unit_of_work(self._database, scope.tenant_id) as connection:
            rows = await connection.fetch(
                """
                SELECT document_id, generation, ordinal
                  FROM search_terms($1, $2, $3, $4::text::tsquery, $5::text[]::tsquery[],
                                    $6::text[]::tsquery[], $7)
                """,
                list(scope.knowledge_base_ids), list(scope.document_ids),
                dict(scope.metadata_filter), any_term, words, pairs, most,
            )  # fmt: skip
        return [PassageRef(row["document_id"], row["generation"], row["ordinal"]) for row in rows]


async def put_terms(
    connection: Connection,
    tenant_id: str,
    task: IndexTask,
    passages: Sequence[NewPassage],
    _vectors: Sequence[Vector],
) -> None:
    """Store the terms of passages in the open transaction. Idempotent."""
    base = quoted(_base_term(task.knowledge_base_id))
    await connection.executemany(
        """
        INSERT INTO passage_terms (tenant_id, document_id, generation, ordinal, terms, term_count)
        VALUES ($1, $2, $3, $4, $5::text::tsvector, $6)
        ON CONFLICT (tenant_id, document_id, generation, ordinal)
        DO UPDATE SET terms = excluded.terms, term_count = excluded.term_count
        """,
        [
            (
                tenant_id, task.document_id, task.generation, passage.ordinal,
                f"{base} {passage.terms}", max(1, passage.term_count),
            )
            for passage in passages
        ],
    )  # fmt: skip


def _base_term(knowledge_base_id: str) -> str:
    """Return the term that every passage of a knowledge base holds. No word looks like it."""
    return f"\N{SECTION SIGN}{knowledge_base_id}"
