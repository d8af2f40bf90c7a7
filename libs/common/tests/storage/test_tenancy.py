"""One transaction, one tenant (C1 of the design, S-03 to S-07)."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from meshwright_common.errors import InvalidArgument
from meshwright_common.ids import new_id
from meshwright_common.storage.postgres import Database, TransactionConflict, open_database
from meshwright_common.storage.tenancy import (
    retry_conflicts,
    security_violations,
    unit_of_work,
    unscoped,
)
from meshwright_common.testing.engines import DatabaseSettingsFor, execute_as_owner

pytestmark = pytest.mark.asyncio

PROTECTION = """
    ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
    ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
    CREATE POLICY tenant_isolation ON {table}
        USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
        WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
    CREATE POLICY owner_access ON {table} TO meshwright_owner
        USING (true) WITH CHECK (true);
"""
TABLES = f"""
    CREATE TABLE session.notes (
        tenant_id uuid NOT NULL,
        id uuid NOT NULL,
        body text NOT NULL,
        PRIMARY KEY (tenant_id, id),
        UNIQUE (tenant_id, body)
    );
    CREATE TABLE session.remarks (
        tenant_id uuid NOT NULL,
        id uuid NOT NULL,
        note_id uuid NOT NULL,
        PRIMARY KEY (tenant_id, id),
        FOREIGN KEY (tenant_id, note_id) REFERENCES session.notes (tenant_id, id)
    );
    {PROTECTION.format(table="session.notes")}
    {PROTECTION.format(table="session.remarks")}
"""
INSERT = "INSERT INTO session.notes (tenant_id, id, body) VALUES ($1, $2, $3)"
FORGETFUL = "SELECT body FROM session.notes ORDER BY body"


@pytest_asyncio.fixture
async def database(database_settings: DatabaseSettingsFor) -> AsyncIterator[Database]:
    settings = await database_settings()
    await execute_as_owner(settings, TABLES)
    async with open_database(settings, "session", max_size=2) as opened:
        yield opened


async def note(database: Database, tenant: str, body: str) -> str:
    note_id = new_id()
    async with unit_of_work(database, tenant) as connection:
        await connection.execute(INSERT, tenant, note_id, body)
    return note_id


async def test_a_query_that_forgets_the_tenant_sees_only_its_own_rows(database: Database) -> None:
    """S-03."""
    one, other = new_id(), new_id()
    await note(database, one, "mine")
    await note(database, other, "theirs")
    async with unit_of_work(database, one) as connection:
        assert [row["body"] for row in await connection.fetch(FORGETFUL)] == ["mine"]


async def test_without_a_tenant_no_row_is_seen_and_none_can_be_written(database: Database) -> None:
    """S-03: fail closed."""
    tenant = new_id()
    await note(database, tenant, "mine")
    async with unscoped(database) as connection:
        assert await connection.fetch(FORGETFUL) == []
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with unscoped(database) as connection:
            await connection.execute(INSERT, tenant, new_id(), "no")


async def test_rows_of_another_tenant_cannot_be_written_moved_or_referred_to(
    database: Database,
) -> None:
    """S-07."""
    mine, theirs = new_id(), new_id()
    their_note = await note(database, theirs, "theirs")
    my_note = await note(database, mine, "mine")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with unit_of_work(database, mine) as connection:
            await connection.execute(INSERT, theirs, new_id(), "planted")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with unit_of_work(database, mine) as connection:
            await connection.execute("UPDATE session.notes SET tenant_id = $1", theirs)
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        async with unit_of_work(database, mine) as connection:
            await connection.execute(
                "INSERT INTO session.remarks (tenant_id, id, note_id) VALUES ($1, $2, $3)",
                mine,
                new_id(),
                their_note,
            )
    async with unit_of_work(database, mine) as connection:
        assert await connection.execute("UPDATE session.notes SET body = 'x'") == "UPDATE 1"
        assert await connection.execute("DELETE FROM session.notes") == "DELETE 1"
        assert my_note
    async with unit_of_work(database, theirs) as connection:
        assert [row["body"] for row in await connection.fetch(FORGETFUL)] == ["theirs"]


async def test_a_natural_key_of_another_tenant_is_free(database: Database) -> None:
    """S-06: a constraint tells nothing about others."""
    await note(database, new_id(), "same words")
    await note(database, new_id(), "same words")


async def test_a_pooled_connection_never_carries_a_tenant_to_the_next_caller(
    database: Database,
) -> None:
    """S-04: a pool of 2, 1 000 turns, with errors, cancellations and killed backends."""
    tenants = [new_id(), new_id()]
    for tenant in tenants:
        await note(database, tenant, tenant)
    chance = random.Random(4)  # noqa: S311 - a repeatable test
    foreign: list[str] = []
    carried: list[str] = []

    async def turn(number: int) -> None:
        tenant = tenants[number % 2]
        fate = chance.random()
        async with database.connection() as connection:
            before = await connection.fetchval("SELECT current_setting('app.tenant_id', true)")
            carried.extend([before] if before else [])
        async with unit_of_work(database, tenant) as connection:
            rows = await connection.fetch(FORGETFUL)
            foreign.extend(row["body"] for row in rows if row["body"] != tenant)
            if fate < 0.2:
                raise ValueError
            if fate < 0.25:
                await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            if fate < 0.4:
                await connection.fetchval("SELECT pg_sleep(0.01)")

    async def bounded(number: int) -> None:
        async with asyncio.timeout(0.05 if number % 10 == 0 else 2.0):
            await turn(number)

    outcomes: list[BaseException | None] = []
    for first in range(0, 1000, 4):
        outcomes += await asyncio.gather(
            *(_quick(bounded(number), chance) for number in range(first, first + 4)),
            return_exceptions=True,
        )
    assert (foreign, carried) == ([], [])
    assert sum(outcome is None for outcome in outcomes) > 500


async def _quick(work: object, chance: random.Random) -> None:
    assert asyncio.iscoroutine(work)
    task = asyncio.ensure_future(work)
    if chance.random() < 0.15:
        asyncio.get_running_loop().call_later(0.005, task.cancel)
    await task


@pytest.mark.parametrize("tenant", ["", "1", "null", "x' OR true --", "{}"])
async def test_what_is_not_a_uuid_is_no_tenant(database: Database, tenant: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        async with unit_of_work(database, tenant):
            pass
    assert refused.value.field_violations[0].field == "tenant_id"


async def test_a_failed_unit_of_work_leaves_nothing(database: Database) -> None:
    tenant = new_id()
    with contextlib.suppress(ZeroDivisionError):
        async with unit_of_work(database, tenant) as connection:
            await connection.execute(INSERT, tenant, new_id(), "one")
            raise ZeroDivisionError
    async with unit_of_work(database, tenant) as connection:
        assert await connection.fetch(FORGETFUL) == []


async def test_transactions_that_deadlock_are_run_again_and_both_succeed(
    database: Database,
) -> None:
    """F-09: invisible to callers."""
    tenant = new_id()
    ids = [await note(database, tenant, "a"), await note(database, tenant, "b")]
    locked = [asyncio.Event(), asyncio.Event()]
    attempts = 0

    async def cross(first: int) -> None:
        nonlocal attempts
        attempts += 1
        async with unit_of_work(database, tenant) as connection:
            for index in (first, 1 - first):
                await connection.execute(
                    "UPDATE session.notes SET body = body || 'x' WHERE tenant_id = $1 AND id = $2",
                    tenant,
                    ids[index],
                )
                locked[first].set()
                # Both hold one row before either asks for the other's.
                await locked[1 - first].wait()

    await asyncio.gather(retry_conflicts(lambda: cross(0)), retry_conflicts(lambda: cross(1)))
    async with unit_of_work(database, tenant) as connection:
        assert [row["body"] for row in await connection.fetch(FORGETFUL)] == ["axx", "bxx"]
    assert attempts > 2


async def test_a_conflict_that_does_not_end_is_given_up_after_three_tries() -> None:
    attempts = 0

    async def lose() -> None:
        nonlocal attempts
        attempts += 1
        raise TransactionConflict

    with pytest.raises(TransactionConflict):
        await retry_conflicts(lose)
    assert attempts == 3


@pytest.mark.parametrize(
    ("change", "violation"),
    [
        ("ALTER TABLE session.notes NO FORCE ROW LEVEL SECURITY", "is not forced"),
        ("ALTER TABLE session.notes DISABLE ROW LEVEL SECURITY", "is not forced"),
        ("DROP POLICY tenant_isolation ON session.notes", "no policy tenant_isolation"),
        (
            "DROP POLICY tenant_isolation ON session.notes; CREATE POLICY tenant_isolation"
            " ON session.notes FOR SELECT USING (true)",
            "no policy tenant_isolation",
        ),
        (
            "CREATE TABLE session.loose (id uuid PRIMARY KEY, tenant_id uuid)",
            "does not start with tenant_id",
        ),
        (
            "CREATE FUNCTION session.door() RETURNS int LANGUAGE sql SECURITY DEFINER"
            " AS 'SELECT 1'",
            "without a fixed search_path",
        ),
        (
            "CREATE FUNCTION session.door() RETURNS int LANGUAGE sql SECURITY DEFINER"
            " SET search_path = pg_catalog AS 'SELECT 1';"
            "GRANT EXECUTE ON FUNCTION session.door() TO PUBLIC",
            "PUBLIC may execute",
        ),
        ("CREATE VIEW session.all_notes AS SELECT * FROM session.notes", "security_invoker"),
    ],
)
async def test_a_hole_in_the_isolation_is_found(
    database_settings: DatabaseSettingsFor, change: str, violation: str
) -> None:
    """S-05, R-31."""
    settings = await database_settings()
    await execute_as_owner(settings, TABLES)
    async with open_database(settings, "session") as database:
        async with unscoped(database) as connection:
            assert await security_violations(connection, ["session", "events"]) == []
        await execute_as_owner(settings, change)
        async with unscoped(database) as connection:
            found = await security_violations(connection, ["session", "events"])
    assert any(violation in one for one in found)


async def test_no_service_and_no_owner_of_tables_could_pass_by_the_policies(
    database: Database,
) -> None:
    """S-05: role facts."""
    async with unscoped(database) as connection:
        rows = await connection.fetch(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'meshwright%'"
            " AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)"
        )
    assert rows == []
