"""Two tables of content of a test's own, one below the other, and who reads and writes them."""

from __future__ import annotations

from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.bootstrap import OWNER_SERVICE
from meshwright_common.storage.placement import place_tenant
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unit_of_work

TABLES = """
    SET search_path = session;
    CREATE TABLE books (
        tenant_id uuid NOT NULL,
        id uuid NOT NULL,
        title text NOT NULL CHECK (title <> ''),
        PRIMARY KEY (tenant_id, id),
        UNIQUE (tenant_id, title)
    ) WITH (fillfactor = 80);
    SELECT events.protect_tenants('books');
    CREATE INDEX books_by_title ON books (tenant_id, lower(title));
    REVOKE DELETE ON books FROM meshwright_session;
    INSERT INTO books VALUES ('00000000-0000-4000-8000-000000000001', gen_random_uuid(), 'old');
    SELECT events.place_by_tenant('books');

    CREATE TABLE chapters (
        tenant_id uuid NOT NULL,
        id uuid NOT NULL,
        book_id uuid NOT NULL,
        written_at timestamptz NOT NULL DEFAULT now(),
        body text NOT NULL,
        PRIMARY KEY (tenant_id, id, written_at),
        FOREIGN KEY (tenant_id, book_id) REFERENCES books ON DELETE CASCADE
    ) PARTITION BY LIST (tenant_id);
    SELECT events.place_by_tenant('chapters', 'RANGE (written_at)');
    CREATE TABLE chapters_before PARTITION OF chapters_shared
        FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
    CREATE TABLE chapters_since PARTITION OF chapters_shared
        FOR VALUES FROM ('2026-01-01') TO (MAXVALUE);
    SELECT events.protect_tenants(leaf), events.close_to_services(leaf)
      FROM events.leaves_of('chapters_shared') AS leaf;
"""
OLD_TENANT = "00000000-0000-4000-8000-000000000001"
ADD_BOOK = "INSERT INTO books (tenant_id, id, title) VALUES ($1, $2, $3)"
ADD_CHAPTER = "INSERT INTO chapters (tenant_id, id, book_id, body) VALUES ($1, $2, $3, $4)"
FORGETFUL = "SELECT c.body FROM chapters c JOIN books b ON b.id = c.book_id ORDER BY c.body"
WHERE = "SELECT DISTINCT tableoid::regclass::text FROM {table} WHERE tenant_id = $1"


async def place(settings: DatabaseSettings, tenant: str, **how: float) -> tuple[int, int]:
    placed = await place_tenant(settings.url_for(OWNER_SERVICE), "session", tenant, **how)
    return len(placed.tables), placed.rows


async def write(database: Database, tenant: str, title: str, *bodies: str) -> str:
    book_id = new_id()
    async with unit_of_work(database, tenant) as connection:
        await connection.execute(ADD_BOOK, tenant, book_id, title)
        for body in bodies:
            await connection.execute(ADD_CHAPTER, tenant, new_id(), book_id, body)
    return book_id


async def bodies_of(database: Database, tenant: str) -> list[str]:
    async with unit_of_work(database, tenant) as connection:
        return [row["body"] for row in await connection.fetch(FORGETFUL)]


async def where(database: Database, tenant: str, table: str) -> set[str]:
    async with unit_of_work(database, tenant) as connection:
        rows = await connection.fetch(WHERE.format(table=table), tenant)
    return {str(row[0]) for row in rows}
