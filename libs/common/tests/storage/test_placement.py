"""A tenant's own schema behind the same tables and queries (S8, R-31, S-03)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from libs.common.tests.storage.placed_tables import (
    ADD_BOOK,
    ADD_CHAPTER,
    OLD_TENANT,
    TABLES,
    bodies_of,
    place,
    where,
    write,
)
from meshwright_common.errors import InvalidArgument
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.bootstrap import OWNER_SERVICE
from meshwright_common.storage.placement import drop_placement, placements, schema_of_tenant
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.storage.tenancy import security_violations, unit_of_work, unscoped
from meshwright_common.testing.engines import DatabaseSettingsFor, execute_as_owner

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def settings(database_settings: DatabaseSettingsFor) -> DatabaseSettings:
    made = await database_settings()
    await execute_as_owner(made, TABLES)
    return made


@pytest_asyncio.fixture
async def database(settings: DatabaseSettings) -> AsyncIterator[Database]:
    async with open_database(settings, "session", max_size=8) as opened:
        yield opened


async def test_table_that_held_rows_is_the_shared_partition_and_stays_as_it_was(
    database: Database, settings: DatabaseSettings
) -> None:
    """Rows, privileges, checks, names of indexes: what was true of the table is of the parent."""
    async with unit_of_work(database, OLD_TENANT) as connection:
        assert await connection.fetchval("SELECT title FROM books") == "old"
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(ADD_BOOK, OLD_TENANT, new_id(), "")
    async with unit_of_work(database, OLD_TENANT) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("DELETE FROM books WHERE tenant_id = $1", OLD_TENANT)
    await execute_as_owner(settings, "DROP INDEX session.books_by_title")
    assert await where(database, OLD_TENANT, "books") == {"books_shared"}
    async with unscoped(database) as connection:
        assert await security_violations(connection, ["session", "events"]) == []


async def test_placed_rows_lie_in_the_schema_of_their_tenant_and_queries_stay_right(
    database: Database, settings: DatabaseSettings
) -> None:
    mine, theirs = new_id(), new_id()
    await write(database, mine, "a", "m1", "m2")
    await write(database, theirs, "a", "t1")
    assert await place(settings, mine) == (2, 3)
    schema = schema_of_tenant(mine)
    assert await where(database, mine, "books") == {f"{schema}.session_books"}
    assert await where(database, mine, "chapters") == {f"{schema}.session_chapters_since"}
    assert await where(database, theirs, "chapters") == {"chapters_since"}
    await write(database, mine, "b", "m3")
    assert await bodies_of(database, mine) == ["m1", "m2", "m3"]
    assert await bodies_of(database, theirs) == ["t1"]
    assert await place(settings, mine) == (0, 0)
    async with unscoped(database) as connection:
        assert await placements(connection) == [mine]
        assert await connection.fetch("SELECT FROM books") == []


async def test_own_schema_is_all_that_a_dump_of_the_tenant_needs(
    database: Database, settings: DatabaseSettings
) -> None:
    """As `pg_dump -n tenant_…` sees it: complete, nobody else's, and no foreign key out of it."""
    mine, theirs = new_id(), new_id()
    await write(database, mine, "a", "m1", "m2")
    await write(database, theirs, "a", "t1")
    await place(settings, mine)
    schema = schema_of_tenant(mine)
    owner = await asyncpg.connect(settings.url_for(OWNER_SERVICE))
    try:
        books = await owner.fetch(f"SELECT tenant_id, title FROM {schema}.session_books")  # noqa: S608
        chapters = await owner.fetch(f"SELECT body FROM {schema}.session_chapters ORDER BY 1")  # noqa: S608
        outside = await owner.fetch(
            "SELECT conrelid::regclass FROM pg_constraint k"
            " JOIN pg_class mine ON mine.oid = k.conrelid"
            " JOIN pg_class named ON named.oid = k.confrelid"
            " WHERE mine.relnamespace = $1::text::regnamespace"
            " AND named.relnamespace <> mine.relnamespace",
            schema,
        )
        assert await owner.fetchval("SELECT count(*) FROM ONLY session.books_shared") == 2
    finally:
        await owner.close()
    assert [(str(row[0]), row[1]) for row in books] == [(mine, "a")]
    assert [row["body"] for row in chapters] == ["m1", "m2"]
    assert outside == []


async def test_nobody_but_the_owner_reaches_a_schema_of_a_tenant(
    database: Database, settings: DatabaseSettings
) -> None:
    mine = new_id()
    await write(database, mine, "a", "m1")
    await place(settings, mine)
    schema = schema_of_tenant(mine)
    for table in (f"{schema}.session_books", "books_shared", "chapters_since"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with unit_of_work(database, mine) as connection:
                await connection.execute(f"SELECT FROM {table}")
    for door in ("events.drop_schema_of($1)", "events.make_placed('books', $1)"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with unscoped(database) as connection:
                await connection.execute(f"SELECT {door}", mine)


async def test_references_stay_inside_a_placement(
    database: Database, settings: DatabaseSettings
) -> None:
    """S-07, and cascades: of two tenants with own schemas and one without."""
    tenants = [new_id(), new_id(), new_id()]
    books = [await write(database, tenant, "a", "m") for tenant in tenants]
    for tenant in tenants[:2]:
        await place(settings, tenant)
    for tenant, book in zip(tenants, (books[1], books[2], books[0]), strict=True):
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            async with unit_of_work(database, tenant) as connection:
                await connection.execute(ADD_CHAPTER, tenant, new_id(), book, "planted")
    await execute_as_owner(settings, "DELETE FROM session.books WHERE title = 'a'")
    for tenant in tenants:
        async with unit_of_work(database, tenant) as connection:
            assert await connection.fetchval("SELECT count(*) FROM chapters") == 0


async def test_later_migrations_on_the_parent_reach_placed_tables(
    database: Database, settings: DatabaseSettings
) -> None:
    mine = new_id()
    await write(database, mine, "a", "m1")
    await place(settings, mine)
    await execute_as_owner(
        settings,
        """
        SET search_path = session;
        ALTER TABLE books ADD COLUMN pages integer NOT NULL DEFAULT 7;
        ALTER TABLE books ADD CHECK (pages > 0);
        CREATE INDEX books_pages ON books (tenant_id, pages);
        CREATE TABLE notes (
            tenant_id uuid NOT NULL,
            book_id uuid NOT NULL,
            PRIMARY KEY (tenant_id, book_id),
            FOREIGN KEY (tenant_id, book_id) REFERENCES books
        ) PARTITION BY LIST (tenant_id);
        SELECT events.place_by_tenant('notes');
        """,
    )
    book = await write(database, mine, "b", "m2")
    async with unit_of_work(database, mine) as connection:
        assert await connection.fetchval("SELECT sum(pages) FROM books") == 14
        await connection.execute("INSERT INTO notes VALUES ($1, $2)", mine, book)
        indexes = await connection.fetch(
            "SELECT indexdef FROM pg_indexes WHERE schemaname = $1 AND indexdef LIKE '%pages%'",
            schema_of_tenant(mine),
        )
        assert await security_violations(connection, ["session"]) == []
    assert len(indexes) == 1
    assert await where(database, mine, "notes") == {f"{schema_of_tenant(mine)}.session_notes"}
    with pytest.raises(asyncpg.CheckViolationError):
        async with unit_of_work(database, mine) as connection:
            await connection.execute("UPDATE books SET pages = 0 WHERE tenant_id = $1", mine)


async def test_dropped_schema_takes_the_tenants_rows_and_nobody_elses(
    database: Database, settings: DatabaseSettings
) -> None:
    mine, theirs = new_id(), new_id()
    await write(database, mine, "a", "m1")
    await write(database, theirs, "a", "t1")
    await place(settings, mine)
    url = settings.url_for(OWNER_SERVICE)
    assert await drop_placement(url, mine)
    assert not await drop_placement(url, mine)
    assert await bodies_of(database, mine) == []
    assert await bodies_of(database, theirs) == ["t1"]
    # What comes now lies with everybody's.
    await write(database, mine, "a", "m2")
    assert await where(database, mine, "books") == {"books_shared"}


@pytest.mark.parametrize(
    ("change", "violation"),
    [
        ("GRANT SELECT ON {schema}.session_books TO meshwright_session", "may use directly"),
        ("GRANT USAGE ON SCHEMA {schema} TO meshwright_chat", "may use directly"),
        ("GRANT SELECT ON session.books_shared TO meshwright_session", "may use directly"),
        ("ALTER TABLE {schema}.session_chapters_since NO FORCE ROW LEVEL SECURITY", "not forced"),
        ("DROP POLICY tenant_isolation ON {schema}.session_books", "no policy tenant_isolation"),
        (
            "CREATE TABLE session.loose (tenant_id uuid, book_id uuid,"
            " PRIMARY KEY (tenant_id, book_id),"
            " FOREIGN KEY (tenant_id, book_id) REFERENCES session.books);"
            " SELECT events.protect_tenants('session.loose')",
            "not placed with it",
        ),
    ],
)
async def test_a_hole_in_a_placement_is_found(
    database: Database, settings: DatabaseSettings, change: str, violation: str
) -> None:
    """S-05, R-31."""
    mine = new_id()
    await place(settings, mine)
    async with unscoped(database) as connection:
        assert await security_violations(connection, ["session"]) == []
        await execute_as_owner(settings, change.format(schema=schema_of_tenant(mine)))
        found = await security_violations(connection, ["session"])
    assert any(violation in one for one in found), found


async def test_what_is_no_uuid_is_no_tenant_to_place(settings: DatabaseSettings) -> None:
    for call in (place(settings, "x'; --"), drop_placement(settings.url_for("owner"), "")):
        with pytest.raises(InvalidArgument):
            await call
