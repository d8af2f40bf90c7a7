"""Rows with sealed columns, as the migrations have declared them: found, counted, sealed anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from meshwright_common.encryption.tenant_keys import FORMAT, Place
from meshwright_common.storage.postgres import Connection, Record

PLAIN: Final = b"\x00"
"""What stands before content that is older than its sealed column."""

COPYING: Final = timedelta(minutes=5)
"""Longer than it takes to copy a row to an object."""

_COLUMNS: Final = """
SELECT s.relation, s.sealed_column, s.row_id, s.has_plain,
    ARRAY(SELECT a.attname::text
            FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (number, place)
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
           WHERE i.indrelid = s.relation::regclass AND i.indisprimary AND a.attname <> 'tenant_id'
           ORDER BY k.place) AS key
FROM encryption.sealed_columns s ORDER BY s.relation, s.sealed_column
"""

_OBJECTS: Final = """
SELECT relation, time_column FROM encryption.sealed_objects ORDER BY relation
"""


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """A column of sealed content. `row_id` names its rows when it is sealed, `key` finds them."""

    relation: str
    column: str
    row_id: Sequence[str]
    key: Sequence[str]
    has_plain: bool

    @property
    def name(self) -> str:
        """The column with its table and schema."""
        return f"{self.relation}.{self.column}"

    def place_of(self, row: Mapping[str, Any] | Record) -> Place:
        """Return what the content of a row is sealed for."""
        return Place(self.relation, self.column, "/".join(str(row[name]) for name in self.row_id))

    def page(self, *, plain: bool, after: bool) -> str:
        """Return the statement for the next rows to seal: $1 tenant, $2 prefix, $3 most, $4… key.

        Of `plain` content those that begin with the prefix, else those that do not. Rows that
        somebody is writing are left for later: whoever waits for them may wait in a circle.
        """
        key = ", ".join(self.key)
        first = 4
        behind = ", ".join(f"${number}" for number in range(first, first + len(self.key)))
        return (
            f"SELECT {', '.join(dict.fromkeys((*self.key, *self.row_id)))}, {self.column} AS sealed"  # noqa: S608 - names from the catalogue
            f" FROM {self.relation} WHERE tenant_id = $1 AND {self._wanted(plain)}"
            + (f" AND ({key}) > ({behind})" if after else "")
            + f" ORDER BY {key} LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED"
        )

    def count(self, *, plain: bool) -> str:
        """Return the statement that counts rows to seal: $1 tenant, $2 prefix."""
        return (
            f"SELECT count(*) FROM {self.relation}"  # noqa: S608 - names from the catalogue
            f" WHERE tenant_id = $1 AND {self._wanted(plain)}"
        )

    def write(self) -> str:
        """Return the statement that writes one row: $1 tenant, $2 content, $3… key."""
        found = " AND ".join(f"{name} = ${place}" for place, name in enumerate(self.key, start=3))
        return f"UPDATE {self.relation} SET {self.column} = $2 WHERE tenant_id = $1 AND {found}"  # noqa: S608 - names from the catalogue

    def _wanted(self, plain: bool) -> str:
        sign = "=" if plain else "<>"
        return f"substring({self.column} FROM 1 FOR octet_length($2::bytea)) {sign} $2::bytea"


def prefix_of(version: int) -> bytes:
    """Return what content begins with that the key of this version has sealed."""
    return FORMAT.to_bytes(1, "big") + version.to_bytes(4, "big")


async def sealed_columns(connection: Connection) -> Sequence[SealedColumn]:
    """Return the sealed columns of all services."""
    rows = await connection.fetch(_COLUMNS)
    return [
        SealedColumn(
            row["relation"], row["sealed_column"], row["row_id"], row["key"], row["has_plain"]
        )
        for row in rows
    ]


async def count_older(
    connection: Connection, tenant_id: str, version: int, resealed_at: datetime
) -> dict[str, int]:
    """Return how many rows and objects of a tenant older keys than `version` seal, by their table.

    Of objects, those that were made before `resealed_at`, when all rows were sealed anew, and a
    little later: some are copies of rows.
    """
    counts: dict[str, int] = {}
    for column in await sealed_columns(connection):
        counts[column.name] = await connection.fetchval(
            f"SELECT count(*) FROM {column.relation} WHERE tenant_id = $1"  # noqa: S608 - names from the catalogue
            f" AND substring({column.column} FROM 1 FOR 5) < $2",
            tenant_id,
            prefix_of(version),
        )
    for row in await connection.fetch(_OBJECTS):
        counts[row["relation"]] = await connection.fetchval(
            f"SELECT count(*) FROM {row['relation']} WHERE tenant_id = $1"  # noqa: S608 - names from the catalogue
            f" AND {row['time_column']} < $2",
            tenant_id,
            resealed_at + COPYING,
        )
    return {name: count for name, count in counts.items() if count}
