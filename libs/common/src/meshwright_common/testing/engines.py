"""Real PostgreSQL and Valkey for tests: pytest fixtures, loaded for every test of the repository.

One server of each per pytest process (per xdist worker), in a temporary folder, gone afterwards;
a fresh, migrated database per test, cloned from a template in some 20 ms.

    from meshwright_common.ids import new_id
    from meshwright_common.storage.tenancy import unit_of_work
    from meshwright_common.testing.engines import ServiceDatabase

    @pytest.mark.asyncio
    async def test_a_renamed_session_keeps_its_id(service_database: ServiceDatabase) -> None:
        database = await service_database("meshwright_session")   # logged in as its app role
        tenant = new_id()
        async with unit_of_work(database, tenant) as connection:
            await connection.execute("INSERT INTO sessions …", tenant)

    async def test_two_services(database_settings: DatabaseSettingsFor) -> None:
        settings = await database_settings("meshwright_session", "meshwright_chat")
        async with open_database(settings, "chat") as database: ...   # a service's settings

    async def test_a_journal(redis_settings: RedisSettings) -> None:   # an empty Valkey
        async with open_redis(redis_settings) as client: ...

Both wait long (`testing.patience`), so that a machine that stands still fails no test.
`MESHWRIGHT_TEST_POSTGRES_URL` (a superuser's URL) runs them on that server instead of the wheel's.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import pytest_asyncio
import redis

from meshwright_common.settings import DatabaseSettings, RedisSettings
from meshwright_common.storage.bootstrap import OWNER, OWNER_SERVICE, bootstrap
from meshwright_common.storage.embedded.postgres import EmbeddedPostgres
from meshwright_common.storage.embedded.valkey import EmbeddedValkey
from meshwright_common.storage.migrations import migrate, migrate_events
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.testing.memory_folder import memory_folder
from meshwright_common.testing.patience import patient_database, patient_redis

SERVER_VARIABLE = "MESHWRIGHT_TEST_POSTGRES_URL"
PACKAGE_PREFIX = "meshwright_"

DatabaseSettingsFor: TypeAlias = Callable[..., Awaitable[DatabaseSettings]]
"""`await database_settings("meshwright_session", …)`: a fresh database with these migrated."""
ServiceDatabase: TypeAlias = Callable[[str], Awaitable[Database]]
"""`await service_database("meshwright_session")`: its pool on a fresh, migrated database."""


async def execute_as_owner(settings: DatabaseSettings, sql: str) -> None:
    """Run statements as `meshwright_owner`, as a migration would: tables of a test's own."""
    connection = await asyncpg.connect(settings.url_for(OWNER_SERVICE))
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


def service_of(package: str) -> str:
    """Return the service of a package: "meshwright_model_router" is "model-router"."""
    return package.removeprefix(PACKAGE_PREFIX).replace("_", "-")


@dataclass(slots=True)
class PostgresServer:
    """A running server. `superuser_url` names its maintenance database."""

    superuser_url: str
    password: str
    _templates: dict[tuple[str, ...], str] = field(default_factory=dict)

    def superuser_url_of(self, database: str) -> str:
        """Return the superuser's URL of `database`."""
        return urlunsplit(urlsplit(self.superuser_url)._replace(path=f"/{database}"))

    def settings_of(self, database: str) -> DatabaseSettings:
        """Return what a service's settings would say: the URL with `{service}` in it."""
        address = urlsplit(self.superuser_url)
        login = f"{PACKAGE_PREFIX}{{service}}:{self.password}"
        return patient_database(
            f"postgresql://{login}@{address.hostname}:{address.port}/{database}"
        )

    async def clone(self, *packages: str) -> str:
        """Create a database with roles, the event log and `packages` migrated; return its name."""
        template = await self._template(tuple(sorted(packages)))
        name = f"test_{secrets.token_hex(6)}"
        async with self._superuser() as connection:
            await connection.execute(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {template}")
        return name

    async def drop(self, database: str) -> None:
        """Drop a database and whoever is still connected to it."""
        async with self._superuser() as connection:
            await connection.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    async def _template(self, packages: tuple[str, ...]) -> str:
        if packages not in self._templates:
            name = f"template_{secrets.token_hex(6)}"
            await bootstrap(self.superuser_url, password=self.password, database=name)
            owner_url = self.settings_of(name).url_for(OWNER_SERVICE)
            await migrate_events(owner_url)
            for package in packages:
                await migrate(owner_url, service_of(package), package)
            self._templates[packages] = name
        return self._templates[packages]

    @contextlib.asynccontextmanager
    async def _superuser(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        connection = await asyncpg.connect(self.superuser_url)
        try:
            yield connection
        finally:
            await connection.close()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A PostgreSQL server for this pytest process; not durable and in memory, therefore fast."""
    password = secrets.token_urlsafe(16)
    if external := os.environ.get(SERVER_VARIABLE):
        yield PostgresServer(external, password)
        return
    with memory_folder(tmp_path_factory.mktemp("postgres")) as folder:
        engine = EmbeddedPostgres(
            folder / "data", password=password, log=folder / "postgres.log", durable=False
        )
        engine.start()
        try:
            yield PostgresServer(engine.url(), password)
        finally:
            engine.stop()


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisSettings]:
    """A Valkey server for this pytest process; its settings. Shared: see `redis_settings`."""
    folder: Path = tmp_path_factory.mktemp("valkey")
    engine = EmbeddedValkey(
        folder / "data", password=secrets.token_urlsafe(16), log=folder / "valkey.log"
    )
    engine.start()
    try:
        yield patient_redis(engine.url)
    finally:
        engine.stop()


@pytest.fixture
def redis_settings(valkey_server: RedisSettings) -> RedisSettings:
    """The settings of an empty Valkey."""
    with redis.Redis.from_url(valkey_server.url) as client:
        client.flushall()
    return valkey_server


@pytest_asyncio.fixture
async def database_settings(postgres_server: PostgresServer) -> AsyncIterator[DatabaseSettingsFor]:
    """Make databases for this test: `await database_settings("meshwright_chat", …)`."""
    made: list[str] = []

    async def make(*packages: str) -> DatabaseSettings:
        made.append(await postgres_server.clone(*packages))
        return postgres_server.settings_of(made[-1])

    yield make
    for name in made:
        await postgres_server.drop(name)


@pytest_asyncio.fixture
async def service_database(
    database_settings: DatabaseSettingsFor,
) -> AsyncIterator[ServiceDatabase]:
    """Open a service's own database for this test: `await service_database("meshwright_rag")`."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(package: str) -> Database:
            settings = await database_settings(package)
            return await stack.enter_async_context(open_database(settings, service_of(package)))

        yield make
