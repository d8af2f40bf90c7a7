"""A tenant's own schema behind the same tables and queries (S8, R-31, S-03)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest
import pytest_asyncio

from meshwright_common.errors import InvalidArgument
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.bootstrap import OWNER_SERVICE
from meshwright_common.storage.placement import (
    TenantBusy,
    drop_placement,
    place_tenant,
    placements,
    schema_of_tenant,
)
from meshwright_common.storage.postgres import Database, StorageUnavailable, open_database
from meshwright_common.storage.tenancy import (
    retry_conflicts,
    security_violations,
    unit_of_work,
    unscoped,
)
from meshwright_common.testing.engines import DatabaseSettingsFor, execute_as_owner
from meshwright_common.testing.waiting import eventually

pytestmark = pytest.mark.asyncio

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


@pytest_asyncio.fixture
async def settings(database_settings: DatabaseSettingsFor) -> DatabaseSettings:
    made = await database_settings()
    await execute_as_owner(made, TABLES)
    return made


@pytest_asyncio.fixture
async def database(settings: DatabaseSettings) -> AsyncIterator[Database]:
    async with open_database(settings, "session", max_size=8) as opened:
        yield opened


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


async def test_nothing_is_scanned_while_others_are_locked_out(
    database: Database, settings: DatabaseSettings
) -> None:
    """Both sides of each ATTACH are proven by constraints: PostgreSQL says so."""
    mine = new_id()
    await write(database, mine, "a", "m1")
    said: list[str] = []
    owner = await asyncpg.connect(settings.url_for(OWNER_SERVICE))
    tables = ["session.books", "session.chapters"]
    try:
        owner.add_log_listener(lambda _, message: said.append(str(message)))
        for step in ("prepare_placed", "hold_writes"):
            await owner.execute(f"SELECT events.{step}($1::text[]::regclass[], $2)", tables, mine)
        for table in tables:
            await owner.execute(
                "SELECT events.copy_rows($1::text::regclass, $2, NULL, 10)", table, mine
            )
        async with owner.transaction():
            await owner.execute(
                "SELECT events.leave_shared($1::text[]::regclass[], $2)", tables, mine
            )
            for table in tables:
                await owner.execute(
                    f"ALTER TABLE {table}_shared VALIDATE CONSTRAINT"
                    f" moving_{schema_of_tenant(mine)}"
                )
            await owner.execute("SET LOCAL client_min_messages = debug1")
            await owner.execute(
                "SELECT events.attach_placed($1::text[]::regclass[], $2)", tables, mine
            )
    finally:
        await owner.close()
    implied = [line for line in said if "implied by existing constraints" in line]
    assert sum("updated partition constraint for default" in line for line in implied) == 2, said
    assert sum('table "session_books" is implied' in line for line in implied) == 1, said
    assert not any("verifying" in line for line in said), said
    assert await bodies_of(database, mine) == ["m1"]


class Traffic:
    """Writers and a reader of one tenant, and what they know to be there."""

    def __init__(self, database: Database, tenant: str) -> None:
        self._database = database
        self.tenant = tenant
        self._ended = asyncio.Event()
        self.kept: set[str] = set()
        self.wrong: list[str] = []

    def begin(self, group: asyncio.TaskGroup) -> None:
        for number in (1, 2):
            group.create_task(self._write(number))
        group.create_task(self._read())

    def end(self) -> None:
        self._ended.set()

    async def at_least(self, count: int) -> None:
        await eventually(lambda: len(self.kept) >= count)

    async def _write(self, number: int) -> None:
        chance = random.Random(number)  # noqa: S311 - not a secret
        for count in itertools.count():
            if self._ended.is_set():
                return
            # Refused while the tenant moves: the same again, as callers do.
            with contextlib.suppress(StorageUnavailable):
                body = f"{self.tenant[-6:]}-{number}-{count}"
                await retry_conflicts(functools.partial(self._add, body))
                self.kept.add(body)
                if chance.random() < 0.2:
                    await self._remove(chance.choice(sorted(self.kept)))

    async def _add(self, body: str) -> None:
        await write(self._database, self.tenant, body, body)

    async def _remove(self, body: str) -> None:
        # Not missed from now on, whether or not it goes.
        self.kept.discard(body)
        async with unit_of_work(self._database, self.tenant) as connection:
            await connection.execute(
                "DELETE FROM chapters WHERE tenant_id = $1 AND body = $2", self.tenant, body
            )

    async def _read(self) -> None:
        while not self._ended.is_set():
            certain = set(self.kept)
            with contextlib.suppress(StorageUnavailable):
                self.compare(certain, await bodies_of(self._database, self.tenant))

    def compare(self, certain: set[str], seen: list[str]) -> None:
        missing = (certain & self.kept) - set(seen)
        if missing or len(seen) != len(set(seen)):
            self.wrong.append(f"{len(missing)} of {len(certain)} missing, {len(seen)} seen")


async def test_nothing_is_lost_and_nothing_seen_twice_while_writers_run(
    database: Database, settings: DatabaseSettings
) -> None:
    """Writers and readers of the tenant and of another, during the whole move, and after it."""
    mine, theirs = (Traffic(database, new_id()) for _ in range(2))
    tenant = mine.tenant
    async with asyncio.TaskGroup() as group:
        for traffic in (mine, theirs):
            traffic.begin(group)
        await mine.at_least(30)
        await theirs.at_least(30)
        tables, moved = await place(settings, tenant)
        await mine.at_least(len(mine.kept) + 20)
        await theirs.at_least(len(theirs.kept) + 20)
        mine.end()
        theirs.end()
    assert tables == 2
    assert moved > 30
    for traffic in (mine, theirs):
        traffic.compare(traffic.kept, await bodies_of(database, traffic.tenant))
    assert (mine.wrong, theirs.wrong) == ([], [])
    assert await where(database, tenant, "books") == {f"{schema_of_tenant(tenant)}.session_books"}
    owner = await asyncpg.connect(settings.url_for(OWNER_SERVICE))
    try:
        for table in ("books_shared", "chapters_shared"):
            left = f"SELECT count(*) FROM session.{table} WHERE tenant_id = $1"  # noqa: S608
            assert await owner.fetchval(left, tenant) == 0
    finally:
        await owner.close()


async def test_move_that_was_cut_short_anywhere_is_finished_by_the_next(
    database: Database, settings: DatabaseSettings
) -> None:
    """Killed after each step, and somewhere in between."""
    mine = new_id()
    for number in range(40):
        await write(database, mine, f"b{number}", f"c{number:02}")
    expected = await bodies_of(database, mine)
    for kill in _KILLS:
        await kill(settings, mine)
        assert await bodies_of(database, mine) == expected
    await place(settings, mine)
    assert await where(database, mine, "books") == {f"{schema_of_tenant(mine)}.session_books"}
    assert await bodies_of(database, mine) == expected
    await write(database, mine, "after", "d")
    async with unscoped(database) as connection:
        left = await connection.fetch("SELECT FROM pg_constraint WHERE conname LIKE 'moving_%'")
    assert left == []


def _steps(*names: str) -> Callable[[DatabaseSettings, str], Awaitable[None]]:
    async def kill(settings: DatabaseSettings, tenant: str) -> None:
        owner = await asyncpg.connect(settings.url_for(OWNER_SERVICE))
        tables = ["session.books", "session.chapters"]
        try:
            for name in names:
                if name == "copy_rows":
                    await owner.execute(
                        "SELECT events.copy_rows('session.books', $1, NULL, 25)", tenant
                    )
                else:
                    await owner.execute(
                        f"SELECT events.{name}($1::text[]::regclass[], $2)",
                        tables,
                        tenant,
                    )
        finally:
            await owner.close()

    return kill


async def _terminated(settings: DatabaseSettings, tenant: str) -> None:
    """Begin moves, and end each connection at another moment."""
    killer = await asyncpg.connect(settings.url_for(OWNER_SERVICE))
    kill = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'meshwright-placement' AND datname = current_database()"
    )
    try:
        for delay in (0.02, 0.04, 0.06):
            move = asyncio.create_task(place(settings, tenant))
            await asyncio.wait({move}, timeout=delay)
            await killer.execute(kill)
            await asyncio.gather(move, return_exceptions=True)
    finally:
        await killer.close()


_KILLS = (
    _steps("prepare_placed"),
    _steps("prepare_placed", "hold_writes"),
    _steps("prepare_placed", "hold_writes", "copy_rows"),
    _terminated,
)


async def test_tenant_that_is_busy_is_not_moved_and_goes_on(
    database: Database, settings: DatabaseSettings
) -> None:
    """Doors across tenants write rows of many at once: theirs must not be refused for one."""
    mine = new_id()
    await write(database, mine, "a", "m1")
    await execute_as_owner(
        settings,
        "CREATE FUNCTION session.tenant_is_busy(uuid) RETURNS boolean LANGUAGE sql"
        " RETURN EXISTS (SELECT FROM session.books WHERE tenant_id = $1 AND title = 'a')",
    )
    with pytest.raises(TenantBusy):
        await place(settings, mine, patience_seconds=0.3)
    await write(database, mine, "b", "m2")
    assert await where(database, mine, "books") == {"books_shared"}
    async with unit_of_work(database, mine) as connection:
        await connection.execute("UPDATE books SET title = 'x' WHERE title = 'a'")
    await place(settings, mine)
    assert await bodies_of(database, mine) == ["m1", "m2"]


async def test_long_transaction_of_somebody_makes_the_move_wait_and_not_the_others(
    database: Database, settings: DatabaseSettings
) -> None:
    mine, theirs = new_id(), new_id()
    await write(database, mine, "a", "m1")
    async with unit_of_work(database, theirs) as connection:
        await connection.execute(ADD_BOOK, theirs, new_id(), "long")
        with pytest.raises(TenantBusy):
            await place(settings, mine, patience_seconds=0.3)
        # Nobody stands behind a lock that is waited for.
        await write(database, mine, "b", "m2")
    await place(settings, mine)
    assert await bodies_of(database, mine) == ["m1", "m2"]
    assert await where(database, theirs, "books") == {"books_shared"}


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


async def test_rows_that_move_fire_no_trigger_for_rows_that_go(
    database: Database, settings: DatabaseSettings
) -> None:
    mine = new_id()
    await execute_as_owner(
        settings,
        """
        CREATE TABLE session.gone (tenant_id uuid NOT NULL, id uuid NOT NULL,
                                   PRIMARY KEY (tenant_id, id));
        SELECT events.protect_tenants('session.gone');
        CREATE FUNCTION session.note_gone() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO session.gone VALUES (OLD.tenant_id, OLD.id); RETURN NULL; END';
        GRANT EXECUTE ON FUNCTION session.note_gone() TO meshwright_session;
        CREATE TRIGGER chapter_gone AFTER DELETE ON session.chapters FOR EACH ROW
            EXECUTE FUNCTION session.note_gone();
        """,
    )
    async with unscoped(database) as connection:
        found = await security_violations(connection, ["session"])
    assert [line for line in found if "chapter_gone" in line]
    await execute_as_owner(
        settings,
        """
        DROP TRIGGER chapter_gone ON session.chapters;
        CREATE TRIGGER chapter_gone AFTER DELETE ON session.chapters FOR EACH ROW
            WHEN (current_setting('app.moving', true) IS DISTINCT FROM 'on')
            EXECUTE FUNCTION session.note_gone();
        """,
    )
    await write(database, mine, "a", "m1", "m2")
    await place(settings, mine)
    async with unit_of_work(database, mine) as connection:
        assert await security_violations(connection, ["session"]) == []
        assert await connection.fetch("SELECT FROM gone") == []
        await connection.execute("DELETE FROM chapters WHERE body = 'm1'")
        assert len(await connection.fetch("SELECT FROM gone")) == 1


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
