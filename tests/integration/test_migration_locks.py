"""Migrations run beside services that serve: nobody waits for them longer than for each other.

The rules stand in docs/upgrade.md; infra/dev/check_migrations.sh looks after them in every file.
"""

from __future__ import annotations

import asyncio
import json
import runpy
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage import migrations
from meshwright_common.storage.bootstrap import OWNER_SERVICE
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.storage.tenancy import unit_of_work, unscoped
from meshwright_common.testing.engines import DatabaseSettingsFor
from meshwright_common.testing.waiting import eventually

ROOT: Final = Path(__file__).parents[2]
EXCUSED: Final = ROOT / "infra" / "dev" / "migrations_excused.py"
WRITERS: Final = 4
NEXT: Final = {
    "9001_note.sql": "ALTER TABLE users ADD COLUMN note text;",
    "9002_index.sql": "CREATE INDEX CONCURRENTLY IF NOT EXISTS users_note ON users (note);",
}
"""A release that expands: older code goes on writing rows that know nothing of it."""


@pytest.fixture
def next_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with the migrations of session, and those of a release after this one."""
    package = f"next_release_{tmp_path.name}"
    folder = tmp_path / package / "migrations"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    for one in (files("meshwright_session") / "migrations").iterdir():
        (folder / one.name).write_text(one.read_text("utf-8"), "utf-8")
    for name, sql in NEXT.items():
        (folder / name).write_text(sql)
    monkeypatch.syspath_prepend(tmp_path)
    return package


@dataclass
class Writes:
    """What services of the release before do all the time: `done` counts, `refused` tells why."""

    database: Database
    tenant_id: str
    done: int = 0
    refused: list[str] = field(default_factory=list)

    async def write(self, ended: asyncio.Event) -> None:
        while not ended.is_set():
            try:
                async with unit_of_work(self.database, self.tenant_id) as connection:
                    await connection.execute(
                        "INSERT INTO users (tenant_id, user_id, name, roles)"
                        " VALUES ($1, $2, $3, '{member}')",
                        self.tenant_id,
                        user_id := new_id(),
                        user_id,
                    )
                self.done += 1
            except Exception as error:
                self.refused.append(repr(error))


@asynccontextmanager
async def under_writes(settings: DatabaseSettings) -> AsyncIterator[Writes]:
    """Write with the limits of services until the block ends."""
    ended = asyncio.Event()
    async with open_database(settings, "session") as database:
        tenant_id = new_id()
        async with unit_of_work(database, tenant_id) as connection:
            await connection.execute(
                "INSERT INTO tenants (tenant_id, slug, display_name, plan, first_owner_id)"
                " VALUES ($1, $2, 'busy', 'starter', $1)",
                tenant_id,
                tenant_id,
            )
        writes = Writes(database, tenant_id)
        async with asyncio.TaskGroup() as group:
            for _ in range(WRITERS):
                group.create_task(writes.write(ended))
            try:
                yield writes
            finally:
                ended.set()


@pytest.mark.asyncio
@pytest.mark.timeout(170)
@pytest.mark.promise("OPS-DAY2-02")
async def test_a_migration_behind_a_long_read_holds_no_writer_up(
    database_settings: DatabaseSettingsFor, next_release: str
) -> None:
    """A read that lasts holds the migration up, which gives way to writers again and again."""
    settings = await database_settings("meshwright_session")
    owner = settings.url_for(OWNER_SERVICE)
    reader = await asyncpg.connect(owner)
    try:
        async with under_writes(settings) as writes:
            await eventually(lambda: writes.done > 0)
            reading = reader.transaction()
            await reading.start()
            await reader.fetchval("SELECT count(*) FROM session.users")
            async with asyncio.TaskGroup() as group:
                applying = group.create_task(migrations.migrate(owner, "session", next_release))
                await eventually(lambda: gave_way_twice(writes.database))
                before = writes.done
                await eventually(lambda: writes.done > before)
                assert not applying.done()
                await reading.rollback()
            before = writes.done
            await eventually(lambda: writes.done > before)
    finally:
        await reader.close()
    assert applying.result() == sorted(NEXT)
    assert writes.refused == []


async def gave_way_twice(database: Database) -> bool:
    """Return whether transactions of this database were rolled back at least twice."""
    async with unscoped(database) as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        count: int = await connection.fetchval(
            "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()"
        )
    return count >= 2


@pytest.mark.promise("OPS-DAY2-02")
@pytest.mark.parametrize(
    ("excuse", "expected"),
    [
        ("", "ban-drop-column: gone"),
        ("chat/0099_new.sql ban-drop-column: nothing has read it since 1.3", ""),
        ("chat/0099_new.sql ban-drop-column,ban-drop-table: nothing reads it", "ban-drop-table"),
        ("chat/0099_new.sql ban-drop-column", "not `schema/NNNN_name.sql"),
    ],
)
def test_what_breaks_older_code_needs_an_excuse_that_is_used(
    tmp_path: Path, excuse: str, expected: str
) -> None:
    excused = tmp_path / "excused.txt"
    excused.write_text(f"# a comment\n{excuse}\n")
    path = "services/chat/src/meshwright_chat/migrations/0099_new.sql"
    finding = {"file": path, "line": 0, "rule_name": "ban-drop-column", "message": "gone"}
    done = subprocess.run(
        [sys.executable, str(EXCUSED), str(excused)],
        input=json.dumps([finding]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == bool(expected)
    assert expected in done.stderr


def test_a_block_that_is_not_checked_is_a_finding(tmp_path: Path) -> None:
    folder = tmp_path / "meshwright_chat" / "migrations"
    folder.mkdir(parents=True)
    file = folder / "0099_new.sql"
    file.write_text("CREATE TABLE x (n int);\nDO $$ BEGIN DROP TABLE chat.turns; END $$;\n")
    blocks_of: Callable[[Path], list[Any]] = runpy.run_path(str(EXCUSED))["blocks_of"]
    assert [(one.file, one.line, one.rule) for one in blocks_of(file)] == [
        ("chat/0099_new.sql", 2, "opaque-block")
    ]
