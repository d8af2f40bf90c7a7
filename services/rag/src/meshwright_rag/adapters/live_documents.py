"""Which documents answer: what searches of an outside index have to ask the database."""

from collections.abc import Sequence
from typing import Final

from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_rag.domain.models import PassageRef, SearchScope

_LIVE: Final = """
    d.tenant_id = $1 AND d.knowledge_base_id = ANY ($2::uuid[])
    AND d.live_generation IS NOT NULL AND d.deleted_at IS NULL AND d.metadata @> $4
    AND (cardinality($3::uuid[]) = 0 OR d.id = ANY ($3))
"""


class LiveDocuments:
    """The index generations that may answer a search, as the database knows them now."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def generations(self, scope: SearchScope, *, most: int) -> Sequence[str] | None:
        """Return the generations of the scope that answer; None when there are more than `most`."""
        async with unit_of_work(self._database, scope.tenant_id) as connection:
            rows = await connection.fetch(
                f"SELECT d.live_generation FROM documents AS d WHERE {_LIVE} LIMIT $5",  # noqa: S608
                *_arguments(scope), most + 1,
            )  # fmt: skip
        return None if len(rows) > most else [row["live_generation"] for row in rows]

    async def among(self, scope: SearchScope, refs: Sequence[PassageRef]) -> Sequence[PassageRef]:
        """Return those of `refs`, in their order, whose generation may answer."""
        async with unit_of_work(self._database, scope.tenant_id) as connection:
            rows = await connection.fetch(
                f"""
                SELECT d.live_generation FROM documents AS d
                 WHERE {_LIVE} AND d.live_generation = ANY ($5::uuid[])
                """,  # noqa: S608 - a constant of ours
                *_arguments(scope), list({ref.generation for ref in refs}),
            )  # fmt: skip
        live = {row["live_generation"] for row in rows}
        return [ref for ref in refs if ref.generation in live]


def _arguments(scope: SearchScope) -> tuple[object, ...]:
    return (
        scope.tenant_id,
        list(scope.knowledge_base_ids),
        list(scope.document_ids),
        dict(scope.metadata_filter),
    )
