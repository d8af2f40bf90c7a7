"""A table with sealed content for tests, and what writes and reads it."""

from __future__ import annotations

from typing import Final

from meshwright_common.encryption import KeyRing, Place
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unit_of_work

THINGS: Final = """
CREATE TABLE session.things (
    tenant_id uuid NOT NULL,
    thing_id uuid NOT NULL,
    part integer NOT NULL,
    content bytea,
    PRIMARY KEY (tenant_id, part, thing_id)
);
ALTER TABLE session.things ENABLE ROW LEVEL SECURITY;
ALTER TABLE session.things FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON session.things
    USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
CREATE POLICY owner_access ON session.things TO meshwright_owner USING (true) WITH CHECK (true);
"""
DECLARE: Final = "SELECT encryption.declare_sealed('session.things', 'content', 'thing_id', 'part')"


def place(thing_id: str, part: int) -> Place:
    """Return what the content of a row is sealed for."""
    return Place("session.things", "content", f"{thing_id}/{part}")


async def write(
    database: Database, ring: KeyRing, tenant_id: str, thing_id: str, part: int, text: str
) -> None:
    """Write a row, or write it again."""
    keys = await ring.keys_of(tenant_id)
    async with unit_of_work(database, tenant_id) as connection:
        await connection.execute(
            "INSERT INTO session.things (tenant_id, thing_id, part, content)"
            " VALUES ($1, $2, $3, $4)"
            " ON CONFLICT (tenant_id, part, thing_id) DO UPDATE SET content = excluded.content",
            tenant_id,
            thing_id,
            part,
            keys.seal(place(thing_id, part), text.encode()),
        )


async def read(database: Database, ring: KeyRing, tenant_id: str) -> dict[tuple[str, int], str]:
    """Return all that the tenant has written. Raises: SealBroken."""
    keys = await ring.keys_of(tenant_id)
    async with unit_of_work(database, tenant_id) as connection:
        rows = await connection.fetch(
            "SELECT thing_id, part, content FROM session.things WHERE tenant_id = $1", tenant_id
        )
    return {
        (row["thing_id"], row["part"]): keys.open(
            place(row["thing_id"], row["part"]), row["content"]
        ).decode()
        for row in rows
    }


async def versions(database: Database, tenant_id: str) -> dict[int, int]:
    """Return how many rows each version of the data key seals."""
    async with unit_of_work(database, tenant_id) as connection:
        rows = await connection.fetch(
            "SELECT get_byte(content, 4) AS version, count(*) AS rows FROM session.things"
            " WHERE tenant_id = $1 GROUP BY 1 ORDER BY 1",
            tenant_id,
        )
    return {row["version"]: row["rows"] for row in rows}
