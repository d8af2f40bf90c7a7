"""Which documents answer: what searches of a store outside have to ask the database."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_rag.domain.models import PassageRef, SearchScope

NAMED_AT_MOST: Final = 500
"""Up to so many documents are named in a filter; of more, what is found is sorted out after."""

_GROWTH: Final = 4
_LIVE: Final = """
    d.knowledge_base_id = ANY ($2::uuid[])
    AND d.live_generation IS NOT NULL AND d.deleted_at IS NULL AND d.metadata @> $4
    AND (cardinality($3::uuid[]) = 0 OR d.id = ANY ($3))
"""

Find: TypeAlias = Callable[[str, Sequence[str], int], Awaitable[Sequence[PassageRef]]]
"""`find(field, values, count)`: the best `count` passages of the tenant with such a field."""


class LiveDocuments:
    """Searches of stores that do not know which generation of a document answers.

    `named_at_most`: documents that a filter names by their generations.
    """

    def __init__(self, database: Database, *, named_at_most: int = NAMED_AT_MOST) -> None:
        self._database = database
        self._named_at_most = named_at_most

    async def search(
        self, scope: SearchScope, find: Find, *, most: int, found_at_most: int
    ) -> Sequence[PassageRef]:
        """Return up to `most` passages of the scope that answer, in the order of `find`.

        `found_at_most`: how many the store returns at once.
        """
        generations = await self._generations(scope)
        if len(generations) <= self._named_at_most:
            return await find("generation", generations, most) if generations else []
        count = min(most, found_at_most)
        while True:
            # Passages of documents that are being built, or do not fit the scope, take places.
            found = await find("knowledge_base_id", scope.knowledge_base_ids, count)
            refs = await self._among(scope, found)
            if len(refs) >= most or len(found) < count or count == found_at_most:
                return refs[:most]
            count = min(count * _GROWTH, found_at_most)

    async def _generations(self, scope: SearchScope) -> Sequence[str]:
        """Return the generations of the scope that answer: one more than may be named, at most."""
        async with unit_of_work(self._database, scope.tenant_id) as connection:
            rows = await connection.fetch(
                f"""
                SELECT d.live_generation FROM documents AS d
                 WHERE d.tenant_id = $1 AND {_LIVE} LIMIT $5
                """,  # noqa: S608 - a constant of ours
                *_arguments(scope), self._named_at_most + 1,
            )  # fmt: skip
        return [row["live_generation"] for row in rows]

    async def _among(self, scope: SearchScope, refs: Sequence[PassageRef]) -> Sequence[PassageRef]:
        """Return those of `refs`, in their order, that may answer."""
        async with unit_of_work(self._database, scope.tenant_id) as connection:
            rows = await connection.fetch(
                f"""
                SELECT d.live_generation FROM documents AS d
                 WHERE d.tenant_id = $1 AND {_LIVE} AND d.live_generation = ANY ($5::uuid[])
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
