"""The texts of passages in PostgreSQL."""

from collections.abc import Sequence
from typing import Final

from meshwright_common.storage.postgres import Database, Record
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_rag.domain.models import Passage, PassageRef


class PostgresPassages:
    """Implements `Passages`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def fetch(
        self, tenant_id: str, refs: Sequence[PassageRef], *, neighbours: int
    ) -> dict[PassageRef, Passage]:
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(
                _FETCH, tenant_id, [ref.document_id for ref in refs],
                [ref.generation for ref in refs], [ref.ordinal for ref in refs], neighbours,
            )  # fmt: skip
        parts: dict[PassageRef, list[Record]] = {}
        for row in rows:
            ref = PassageRef(row["document_id"], row["generation"], row["wanted"])
            parts.setdefault(ref, []).append(row)
        return {ref: _joined(ref, found) for ref, found in parts.items()}


_FETCH: Final = """
    SELECT wanted.ordinal AS wanted, p.document_id, p.generation, p.ordinal, p.id, p.text, p.page,
           p.start_offset, p.end_offset, p.heading_path, d.name, d.knowledge_base_id, d.metadata
      FROM unnest($2::uuid[], $3::uuid[], $4::integer[])
           AS wanted (document_id, generation, ordinal)
      JOIN documents AS d
        ON d.tenant_id = $1 AND d.id = wanted.document_id
       AND d.live_generation = wanted.generation AND d.deleted_at IS NULL
      JOIN passages AS p
        ON p.tenant_id = $1 AND p.document_id = wanted.document_id
       AND p.generation = wanted.generation
       AND p.ordinal BETWEEN wanted.ordinal - $5::integer AND wanted.ordinal + $5::integer
     ORDER BY p.document_id, wanted.ordinal, p.ordinal
"""


_GAPS: Final = {0: "", 1: " "}
"""What stands between passages by the characters left out between them: blanks of some kind."""


def _joined(ref: PassageRef, rows: Sequence[Record]) -> Passage:
    """Return the passage with its neighbours: what two of them share appears once."""
    own = next(row for row in rows if row["ordinal"] == ref.ordinal)
    text = ""
    end = rows[0]["start_offset"]
    for row in rows:
        shared = end - row["start_offset"]
        text += row["text"][shared:] if shared > 0 else _GAPS.get(-shared, "\n\n") + row["text"]
        end = row["end_offset"]
    return Passage(
        chunk_id=own["id"],
        document_id=ref.document_id,
        document_name=own["name"],
        knowledge_base_id=own["knowledge_base_id"],
        text=text,
        page=rows[0]["page"],
        end_page=rows[-1]["page"],
        start=rows[0]["start_offset"],
        end=end,
        heading_path=tuple(own["heading_path"]),
        metadata=own["metadata"],
    )
