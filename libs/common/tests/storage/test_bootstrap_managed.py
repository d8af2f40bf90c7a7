"""The bootstrap on a managed server, whose administrator may make roles but is no superuser.

Roles belong to a whole server: this one is the tests' own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from meshwright_common.settings import SettingsError
from meshwright_common.storage.bootstrap import DATABASE, OWNER, bootstrap, role_of
from meshwright_common.storage.embedded.postgres import EmbeddedPostgres

pytestmark = pytest.mark.asyncio

PASSWORD = "of-the-services"


@pytest_asyncio.fixture
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    folder = tmp_path_factory.mktemp("managed")
    postgres = EmbeddedPostgres(
        folder / "postgres", password="superuser", log=folder / "log", durable=False
    )
    postgres.start()
    try:
        await as_superuser(
            postgres, "CREATE ROLE administrator LOGIN CREATEDB CREATEROLE PASSWORD 'administrator'"
        )
        yield postgres
    finally:
        postgres.stop()


async def as_superuser(server: EmbeddedPostgres, *statements: str) -> None:
    connection = await asyncpg.connect(server.url())
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def login(server: EmbeddedPostgres, user: str, password: str, database: str = "postgres") -> str:
    parts = urlsplit(server.url(database))
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{user}:{password}@{host}").geturl()


async def shorten_deadlock_timeout(server: EmbeddedPostgres) -> None:
    # What a parameter group does on such servers.
    await as_superuser(
        server, "ALTER SYSTEM SET deadlock_timeout = '200ms'", "SELECT pg_reload_conf()"
    )


async def test_an_administrator_without_superuser_bootstraps_and_does_so_again(
    server: EmbeddedPostgres,
) -> None:
    await shorten_deadlock_timeout(server)
    administrator = login(server, "administrator", "administrator")
    await bootstrap(administrator, password="first")
    await bootstrap(administrator, password=PASSWORD)
    for role, may_create in ((OWNER, True), (role_of("chat"), False)):
        connection = await asyncpg.connect(login(server, role, PASSWORD, DATABASE))
        try:
            allowed = await connection.fetchval(
                "SELECT has_schema_privilege(current_user, 'chat', 'CREATE')"
            )
            assert may_create is allowed
        finally:
            await connection.close()


async def test_a_server_that_finds_deadlocks_too_late_is_refused(server: EmbeddedPostgres) -> None:
    administrator = login(server, "administrator", "administrator")
    with pytest.raises(SettingsError, match=r"deadlock_timeout .* 200ms"):
        await bootstrap(administrator, password=PASSWORD)


async def test_a_role_that_may_pass_by_row_level_security_is_refused(
    server: EmbeddedPostgres,
) -> None:
    await shorten_deadlock_timeout(server)
    administrator = login(server, "administrator", "administrator")
    await bootstrap(administrator, password=PASSWORD)
    await as_superuser(server, f"ALTER ROLE {role_of('chat')} BYPASSRLS")
    with pytest.raises(SettingsError, match=role_of("chat")):
        await bootstrap(administrator, password=PASSWORD)
