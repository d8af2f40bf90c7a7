"""A tenant on its way into its own schema, while others and itself go on (S8, R-31)."""

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

from libs.common.tests.storage.placed_tables import (
    ADD_BOOK,
    TABLES,
    bodies_of,
    place,
    where,
    write,
)
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.bootstrap import OWNER_SERVICE
from meshwright_common.storage.placement import TenantBusy, schema_of_tenant
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


@pytest_asyncio.fixture
async def settings(database_settings: DatabaseSettingsFor) -> DatabaseSettings:
    made = await database_settings()
    await execute_as_owner(made, TABLES)
    return made


@pytest_asyncio.fixture
async def database(settings: DatabaseSettings) -> AsyncIterator[Database]:
    async with open_database(settings, "session", max_size=8) as opened:
        yield opened


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
