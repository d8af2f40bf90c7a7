"""Forward-only migrations and the bootstrap before them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage import migrations
from meshwright_common.storage.bootstrap import OWNER_SERVICE, bootstrap
from meshwright_common.storage.migrations import MigrationRefused, migrate
from meshwright_common.storage.postgres import Database, StorageUnavailable, open_database
from meshwright_common.storage.tenancy import unscoped
from meshwright_common.testing.engines import DatabaseSettingsFor, PostgresServer
from meshwright_common.testing.waiting import eventually

pytestmark = pytest.mark.asyncio

MakePackage = Callable[[dict[str, str]], str]
THINGS = "CREATE TABLE things (id int PRIMARY KEY);"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakePackage]:
    """Make an importable package with these migrations; a later call replaces them."""
    name = f"migrations_of_{tmp_path.name}"
    monkeypatch.syspath_prepend(tmp_path)

    def make(files: dict[str, str]) -> str:
        folder = tmp_path / name / "migrations"
        folder.mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "__init__.py").touch()
        for old in folder.iterdir():
            old.unlink()
        for file, sql in files.items():
            (folder / file).write_text(sql)
        return name

    yield make
    sys.modules.pop(name, None)


@pytest_asyncio.fixture
async def settings(database_settings: DatabaseSettingsFor) -> DatabaseSettings:
    return await database_settings()


async def apply(settings: DatabaseSettings, package: str) -> list[str]:
    return await migrate(settings.url_for(OWNER_SERVICE), "chat", package)


async def tables(database: Database) -> set[str]:
    async with unscoped(database) as connection:
        rows = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'chat'::regnamespace"
            " AND relkind = 'r'"
        )
    return {row["relname"] for row in rows} - {"schema_migrations"}


async def test_each_migration_is_applied_once_in_order(
    settings: DatabaseSettings, package: MakePackage
) -> None:
    files = {"0002_more.sql": "ALTER TABLE things ADD note text;", "0001_things.sql": THINGS}
    assert await apply(settings, package(files)) == ["0001_things.sql", "0002_more.sql"]
    assert await apply(settings, package(files)) == []
    files["0003_last.sql"] = "CREATE TABLE more (id int PRIMARY KEY);"
    assert await apply(settings, package(files)) == ["0003_last.sql"]


async def test_the_service_may_use_what_was_made_and_not_the_record_of_it(
    settings: DatabaseSettings, package: MakePackage
) -> None:
    await apply(settings, package({"0001_things.sql": THINGS}))
    async with open_database(settings, "chat") as database:
        async with unscoped(database) as connection:
            await connection.execute("INSERT INTO things VALUES (1)")
            assert await connection.fetchval("SELECT count(*) FROM schema_migrations") == 1
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with unscoped(database) as connection:
                await connection.execute("DELETE FROM schema_migrations")


async def test_a_migration_that_fails_half_way_leaves_nothing_of_itself(
    settings: DatabaseSettings, package: MakePackage
) -> None:
    broken = "CREATE TABLE half (id int); SELECT 1 / 0;"
    with pytest.raises(asyncpg.DivisionByZeroError):
        await apply(settings, package({"0001_things.sql": THINGS, "0002_broken.sql": broken}))
    async with open_database(settings, "chat") as database:
        assert await tables(database) == {"things"}
    repaired = {"0001_things.sql": THINGS, "0002_broken.sql": "CREATE TABLE half (id int);"}
    assert await apply(settings, package(repaired)) == ["0002_broken.sql"]


async def test_a_migration_that_changed_after_it_was_applied_is_refused(
    settings: DatabaseSettings, package: MakePackage
) -> None:
    await apply(settings, package({"0001_things.sql": THINGS}))
    with pytest.raises(MigrationRefused, match="changed since"):
        await apply(settings, package({"0001_things.sql": THINGS + " "}))


async def test_a_schema_of_a_newer_version_is_refused(
    settings: DatabaseSettings, package: MakePackage
) -> None:
    files = {"0001_things.sql": THINGS, "0002_new.sql": "SELECT 1;"}
    await apply(settings, package(files))
    with pytest.raises(MigrationRefused, match="newer version"):
        await apply(settings, package({"0001_things.sql": THINGS}))


async def test_a_migration_that_leaves_a_tenant_table_open_is_rolled_back(
    settings: DatabaseSettings, package: MakePackage
) -> None:
    """R-31."""
    table = "CREATE TABLE notes (tenant_id uuid, id uuid, PRIMARY KEY (tenant_id, id));"
    with pytest.raises(MigrationRefused, match="row-level security is not forced"):
        await apply(settings, package({"0001_notes.sql": table}))
    async with open_database(settings, "chat") as database:
        assert await tables(database) == set()


async def test_two_migrators_take_turns(settings: DatabaseSettings, package: MakePackage) -> None:
    slow = THINGS + "SELECT pg_sleep(0.1);"
    name = package({"0001_things.sql": slow, "0002_more.sql": "SELECT 1;"})
    done = await asyncio.gather(*(apply(settings, name) for _ in range(3)))
    assert sorted(done) == [[], [], ["0001_things.sql", "0002_more.sql"]]


async def test_a_migration_does_not_wait_long_for_a_lock(
    settings: DatabaseSettings, package: MakePackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT", "50ms")
    monkeypatch.setattr(migrations, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(migrations, "PAUSE_SECONDS", 0.1)
    await apply(settings, package({"0001_things.sql": THINGS}))
    files = {"0001_things.sql": THINGS, "0002_more.sql": "ALTER TABLE things ADD note text;"}
    async with open_database(settings, "chat") as database, unscoped(database) as connection:
        await connection.execute("LOCK TABLE things IN ROW EXCLUSIVE MODE")
        with pytest.raises(StorageUnavailable):
            await apply(settings, package(files))
    assert await apply(settings, package(files)) == ["0002_more.sql"]


async def test_a_migration_tries_again_until_it_has_its_lock(
    settings: DatabaseSettings, package: MakePackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT", "20ms")
    monkeypatch.setattr(migrations, "PAUSE_SECONDS", 0.02)
    await apply(settings, package({"0001_things.sql": THINGS}))
    files = {"0001_things.sql": THINGS, "0002_more.sql": "ALTER TABLE things ADD note text;"}
    async with open_database(settings, "chat") as database:
        async with unscoped(database) as connection:
            await connection.execute("LOCK TABLE things IN ROW EXCLUSIVE MODE")
            applying = asyncio.ensure_future(
                apply(settings, package(files))
            )  # house: naked-task: awaited
            await eventually(lambda: refused_once(database))
        assert await applying == ["0002_more.sql"]


async def refused_once(database: Database) -> bool:
    """Return whether a transaction of this database was rolled back."""
    async with unscoped(database) as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        rolled_back: int = await connection.fetchval(
            "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()"
        )
    return rolled_back > 0


async def test_an_index_is_built_beside_the_traffic_and_after_a_build_that_died(
    settings: DatabaseSettings, package: MakePackage
) -> None:
    """Outside a transaction: a build waits for writers, so it would lock itself out inside."""
    index = "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS things_n ON things (n);"
    table = "CREATE TABLE things (n int); INSERT INTO things VALUES (1), (1);"
    with pytest.raises(asyncpg.UniqueViolationError):
        await apply(settings, package({"0001_things.sql": table, "0002_index.sql": index}))
    async with open_database(settings, "chat") as database:
        async with unscoped(database) as connection:
            await connection.execute("DELETE FROM things")
        assert await apply(
            settings, package({"0001_things.sql": table, "0002_index.sql": index})
        ) == ["0002_index.sql"]
        async with unscoped(database) as connection:
            assert await connection.fetchval(
                "SELECT indisvalid FROM pg_index WHERE indexrelid = 'things_n'::regclass"
            )


@pytest.mark.parametrize(
    "files",
    [
        {"1_short.sql": ""},
        {"0001_Upper.sql": ""},
        {"0001-dash.sql": ""},
        {"0001_one.sql": "", "0001_two.sql": ""},
    ],
)
async def test_names_that_do_not_order_are_refused(
    package: MakePackage, files: dict[str, str]
) -> None:
    with pytest.raises(MigrationRefused):
        migrations.load(package(files))


async def test_a_bootstrap_can_be_repeated_and_changes_the_password(
    postgres_server: PostgresServer,
) -> None:
    name = await postgres_server.clone()
    try:
        await bootstrap(postgres_server.superuser_url, password="it's new", database=name)
        address = postgres_server.superuser_url.rpartition("@")[2].rpartition("/")[0]
        url = f"postgresql://meshwright_{{service}}:it%27s%20new@{address}/{name}"
        async with open_database(DatabaseSettings(url=url), "orchestrator") as database:
            await database.probe()
    finally:
        await bootstrap(
            postgres_server.superuser_url, password=postgres_server.password, database=name
        )
        await postgres_server.drop(name)


async def test_vectors_are_there_where_the_server_has_them(settings: DatabaseSettings) -> None:
    async with open_database(settings, "rag") as database, unscoped(database) as connection:
        available = await connection.fetchval(
            "SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'"
        )
        installed = await connection.fetchval(
            "SELECT count(*) FROM pg_extension WHERE extname = 'vector'"
        )
    assert available == installed
