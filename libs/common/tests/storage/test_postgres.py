"""The pool: limits that hold, errors that mean something, roles that are confined."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.postgres import (
    Database,
    StorageTimeout,
    StorageUnavailable,
    TransactionConflict,
    UnsafeRole,
    open_database,
)
from meshwright_common.storage.tenancy import unscoped
from meshwright_common.testing.engines import DatabaseSettingsFor, PostgresServer
from meshwright_common.testing.patience import prompt
from meshwright_common.testing.waiting import eventually

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def settings(database_settings: DatabaseSettingsFor) -> DatabaseSettings:
    return prompt(await database_settings())


@pytest_asyncio.fixture
async def database(settings: DatabaseSettings) -> AsyncIterator[Database]:
    async with open_database(settings, "model-router", max_size=3) as opened:
        yield opened


async def setting(database: Database, name: str) -> str:
    async with unscoped(database) as connection:
        value: str = await connection.fetchval("SELECT current_setting($1)", name)
        return value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("statement_timeout", "5s"),
        ("lock_timeout", "1s"),
        ("deadlock_timeout", "200ms"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("transaction_timeout", "30s"),
        ("application_name", "meshwright-model-router"),
        ("search_path", "model_router, public"),
        ("TimeZone", "UTC"),
        ("transaction_isolation", "read committed"),
        ("role", "none"),
    ],
)
async def test_sessions_have_the_limits_of_the_design(
    database: Database, name: str, value: str
) -> None:
    """D4: the effective values, not what was asked for."""
    async with database.connection() as connection:
        if name == "transaction_timeout" and connection.get_server_version().major < 17:
            pytest.skip("PostgreSQL has it since 17")
    assert await setting(database, name) == value


async def test_the_limits_are_settings(settings: DatabaseSettings) -> None:
    """D4: a slow network or disk may need more, a busy edge less."""
    limits = {"acquire_timeout_seconds": 0.05, "statement_timeout_seconds": 7}
    given = settings.model_copy(update={**limits, "lock_timeout_seconds": 2.5})
    async with open_database(given, "chat", max_size=1) as database:
        assert await setting(database, "statement_timeout") == "7s"
        assert await setting(database, "lock_timeout") == "2500ms"
        started = time.monotonic()
        with pytest.raises(StorageUnavailable):
            async with unscoped(database), unscoped(database):
                pass
        # By default it is 2 s.
        assert time.monotonic() - started < 1.5


async def test_jobs_may_have_longer_statements(settings: DatabaseSettings) -> None:
    async with open_database(settings, "rag", statement_timeout_seconds=30) as database:
        assert await setting(database, "statement_timeout") == "30s"


async def test_values_are_strings_and_plain_python(database: Database) -> None:
    one, document = new_id(), {"text": "Größe 大小", "list": [1, 2.5, None, True], "inner": {}}
    async with unscoped(database) as connection:
        row = await connection.fetchrow(
            "SELECT $1::uuid, $2::uuid[], $3::jsonb, $4::json, null::jsonb",
            one,
            [one, one],
            document,
            document,
        )
    assert row is not None
    assert tuple(row) == (one, [one, one], document, document, None)


async def test_a_statement_over_its_limit_is_a_timeout(settings: DatabaseSettings) -> None:
    async with open_database(settings, "chat", statement_timeout_seconds=0.05) as database:
        with pytest.raises(StorageTimeout):
            async with unscoped(database) as connection:
                await connection.execute("SELECT pg_sleep(5)")


async def test_a_lock_not_had_in_time_is_unavailable(database: Database) -> None:
    """F-10: callers do not pile up behind it."""
    async with unscoped(database) as holder:
        await holder.execute("SELECT pg_advisory_xact_lock(1)")
        with pytest.raises(StorageUnavailable) as refused:
            async with unscoped(database) as connection:
                await connection.execute(
                    "SET LOCAL lock_timeout = '10ms'; SELECT pg_advisory_xact_lock(1)"
                )
    assert refused.value.metadata["sqlstate"] == "55P03"
    assert refused.value.retry_after_seconds == 1.0


async def test_a_full_pool_refuses_after_two_seconds(settings: DatabaseSettings) -> None:
    async with open_database(settings, "chat", max_size=1) as database, unscoped(database):
        with pytest.raises(StorageUnavailable):
            async with asyncio.timeout(3), unscoped(database):
                pass


async def test_a_killed_session_is_unavailable_and_the_next_one_works(database: Database) -> None:
    with pytest.raises(StorageUnavailable):
        async with unscoped(database) as connection:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert await setting(database, "application_name") == "meshwright-model-router"


async def test_a_caller_who_leaves_has_left_though_the_roll_back_fails(database: Database) -> None:
    """A loop that waits out what is unavailable would go on, and hold up the end of its process."""
    sessions: list[int] = []

    async def wait() -> None:
        async with unscoped(database) as connection:
            sessions.append(await connection.fetchval("SELECT pg_backend_pid()"))
            await connection.execute("SELECT pg_sleep(4)")

    waiting = asyncio.create_task(wait())
    await eventually(lambda: bool(sessions))
    # Both in one turn of the loop: the session is gone when the roll-back is sent.
    os.kill(sessions[0], signal.SIGTERM)
    time.sleep(0.2)  # noqa: ASYNC251 - the loop is to see both at once
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()


async def test_an_absent_server_is_unavailable_and_opening_does_not_need_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"postgresql://meshwright_{{service}}:x@127.0.0.1:{taken.getsockname()[1]}/meshwright"
        async with open_database(DatabaseSettings(url=url), "chat") as database:
            with pytest.raises(StorageUnavailable):
                await database.probe()


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
async def test_conflicts_are_told_apart(database: Database, sqlstate: str) -> None:
    with pytest.raises(TransactionConflict):
        async with unscoped(database) as connection:
            await connection.execute(
                f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}'; END $$"
            )


@pytest.mark.parametrize("sqlstate", ["53100", "53300", "53200", "57P01", "57P03", "25006"])
async def test_a_full_or_read_only_server_is_unavailable(database: Database, sqlstate: str) -> None:
    """F-06, F-07, F-08."""
    with pytest.raises(StorageUnavailable) as refused:
        async with unscoped(database) as connection:
            await connection.execute(
                f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}'; END $$"
            )
    assert refused.value.metadata["sqlstate"] == sqlstate


async def test_errors_only_the_caller_can_judge_pass_unchanged(database: Database) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with unscoped(database) as connection:
            await connection.execute("SELECT 1 / 0")
    with pytest.raises(asyncpg.DataError):
        async with unscoped(database) as connection:
            await connection.execute("SELECT $1::int", "not a number")


async def test_a_service_reaches_its_own_schema_only(database: Database) -> None:
    for schema in ("session", "rag", "chat", "orchestrator", "tool_exec"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with unscoped(database) as connection:
                await connection.execute(f"CREATE TABLE {schema}.mine (id int)")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with unscoped(database) as connection:
            await connection.execute("CREATE TABLE public.mine (id int)")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with unscoped(database) as connection:
            await connection.execute("CREATE TABLE model_router.mine (id int)")


async def test_a_confined_role_is_ready(database: Database) -> None:
    await database.probe()


@pytest.mark.parametrize("role", ["superuser", "owner"])
async def test_a_role_that_could_pass_by_the_policies_is_not_ready(
    settings: DatabaseSettings, postgres_server: PostgresServer, role: str
) -> None:
    """R-31."""
    url = postgres_server.superuser_url if role == "superuser" else settings.url_for("owner")
    if role == "owner":
        # The event log's tables make it an owner.
        assert "meshwright_owner" in url
    async with open_database(DatabaseSettings(url=url), "session") as database:
        with pytest.raises(UnsafeRole):
            await database.probe()


async def test_idle_services_hold_no_connection(settings: DatabaseSettings) -> None:
    async with open_database(settings, "chat") as database:
        assert database.pool.get_size() == 0


async def test_session_state_is_clean_for_the_next_caller(settings: DatabaseSettings) -> None:
    async with open_database(settings, "chat", max_size=1) as database:
        with contextlib.suppress(ZeroDivisionError):
            async with database.connection() as connection:
                await connection.execute("BEGIN; SET LOCAL app.tenant_id = 'x'")
                raise ZeroDivisionError
        async with database.connection() as connection:
            assert not connection.is_in_transaction()
            assert not await connection.fetchval("SELECT current_setting('app.tenant_id', true)")
