"""Where passages can be found: tables beside them, stores outside the database, or both."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from meshwright_common.storage.postgres import Connection
from meshwright_rag.domain.models import IndexTask, NewPassage
from meshwright_rag.domain.ports import PassageIndex, Vector

PASSAGES: Final = "passages"
TERMS: Final = "passage_terms"
VECTORS: Final = "passage_vectors"
"""Tables of passages; each has (tenant_id, document_id, generation, ordinal)."""

PutRows: TypeAlias = Callable[
    [Connection, str, IndexTask, Sequence[NewPassage], Sequence[Vector]], Awaitable[None]
]
"""Writes passages of a tenant into one table, in the open transaction. Idempotent."""


@dataclass(frozen=True, slots=True)
class Indexes:
    """The indexes that this installation searches.

    `tables` are written in the transaction that stores the passages, by the functions that they
    map to. `outside` are written before that transaction: what is noted in it can be found.
    """

    tables: Mapping[str, PutRows]
    outside: Sequence[PassageIndex] = ()

    @property
    def kept_together(self) -> tuple[str, ...]:
        """The tables that hold every passage of an index, or none."""
        return (PASSAGES, *self.tables)


async def tables_with_passages(connection: Connection) -> tuple[str, ...]:
    """Return every table that may hold passages: also one that is written no longer."""
    if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", VECTORS):
        return (PASSAGES, TERMS, VECTORS)
    return (PASSAGES, TERMS)
