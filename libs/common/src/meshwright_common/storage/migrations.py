"""Forward-only SQL migrations, one file one transaction, run as the owner and never by a service.

A package keeps them as `migrations/NNNN_name.sql`. What was applied is recorded in
`<schema>.schema_migrations` with the file's SHA-256: an applied file never changes again.

They run beside services that serve. A migration that waits for a lock makes everybody behind it
wait: it gives up before they do, and tries again. An index on a table that is large is built by a
file of one statement, CREATE INDEX CONCURRENTLY IF NOT EXISTS, which runs outside a transaction.
docs/upgrade.md has the rules, infra/dev/check_migrations.sh looks after them.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.resources
import random
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from meshwright_common.errors import FailedPrecondition
from meshwright_common.storage.bootstrap import EVENTS_SCHEMA, SERVICES_WITH_TABLES, role_of
from meshwright_common.storage.postgres import (
    CONNECT_TIMEOUT_SECONDS,
    Connection,
    prepare_connection,
    schema_of,
    translated_errors,
)
from meshwright_common.storage.tenancy import security_violations

FILE_NAME: Final = re.compile(r"\d{4}_[a-z0-9_]+\.sql")
CONCURRENTLY: Final = re.compile(
    r"(?:--[^\n]*\n|\s)*(?:CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+IF\s+NOT\s+EXISTS"
    r"|DROP\s+INDEX\s+CONCURRENTLY\s+IF\s+EXISTS)\b[^;]*;\s*",
    re.IGNORECASE,
)
"""The one statement of a file that runs outside a transaction; doing it again does no harm."""
LOCK_TIMEOUT: Final = "500ms"
"""Half of the services' own: whoever queues behind a migration that waits is served in time."""
PATIENCE_SECONDS: Final = 60.0
"""How long a migration is tried again while others hold what it needs."""
PAUSE_SECONDS: Final = 1.0
"""Between two tries, more or less: those who queued have their turn."""
TURN_TIMEOUT: Final = "60s"
"""How long a second migrator waits for the first."""


class MigrationRefused(FailedPrecondition):
    """The files and what the database has seen do not fit; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: `name` with its ending, and its text."""

    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """The hex digest that is recorded when it was applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def concurrent(self) -> bool:
        """Whether it is one statement that builds or drops an index beside the traffic."""
        return CONCURRENTLY.fullmatch(self.sql) is not None


def load(package: str, *, folder: str = "migrations") -> tuple[Migration, ...]:
    """Return the migrations of an importable package, in order; empty when it has none.

    Raises: MigrationRefused for a file whose name is not NNNN_name.sql, or a number used twice.
    """
    root = importlib.resources.files(package) / folder
    if not root.is_dir():
        return ()
    names = sorted(one.name for one in root.iterdir() if one.name.endswith(".sql"))
    for name in names:
        if not FILE_NAME.fullmatch(name):
            raise MigrationRefused(f"{package}/{folder}/{name} is not named NNNN_name.sql.")
    numbers = [name[:4] for name in names]
    if len(set(numbers)) != len(numbers):
        raise MigrationRefused(f"{package}/{folder} uses a number twice: {', '.join(names)}.")
    return tuple(Migration(name, (root / name).read_text("utf-8")) for name in names)


async def migrate(
    owner_url: str, service: str, package: str, *, folder: str = "migrations"
) -> list[str]:
    """Apply what is new of `package` to the schema of `service`; return the names applied.

    `owner_url` logs in as `meshwright_owner`. Two at once take turns. Idempotent. Each file runs
    with the schema first on the search path and is recorded in its own transaction.
    Raises: MigrationRefused when an applied file changed or is missing here, or when the result
    would leave a tenant table unprotected; StorageUnavailable, also when others held a lock for a
    minute; the driver's error for wrong SQL.
    """
    migrations = load(package, folder=folder)
    schema = schema_of(service)
    settings = {"search_path": f"{schema}, public", "application_name": "meshwright-migrate"}
    with translated_errors():
        connection = await asyncpg.connect(
            owner_url, timeout=CONNECT_TIMEOUT_SECONDS, server_settings=settings
        )
        try:
            await prepare_connection(connection)
            return await _apply(connection, schema, migrations)
        finally:
            await connection.close()


async def migrate_events(owner_url: str) -> list[str]:
    """Apply the event log's own migrations; every service needs them. As `migrate`.

    Also fits a log that was restored from another server to this one.
    """
    applied = await migrate(owner_url, EVENTS_SCHEMA, "meshwright_common", folder="sql")
    with translated_errors():
        connection = await asyncpg.connect(owner_url, timeout=CONNECT_TIMEOUT_SECONDS)
        try:
            await connection.execute("SELECT events.rebase()")
        finally:
            await connection.close()
    return applied


async def _apply(connection: Connection, schema: str, migrations: Sequence[Migration]) -> list[str]:
    await connection.execute(f"SET lock_timeout = '{TURN_TIMEOUT}'")
    await connection.execute("SELECT pg_advisory_lock(hashtext('meshwright.migrate'))")
    await connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
    await connection.execute(
        f"CREATE TABLE IF NOT EXISTS {schema}.schema_migrations ("
        "name text PRIMARY KEY, sha256 text NOT NULL,"
        " applied_at timestamptz NOT NULL DEFAULT now())"
    )
    for service in SERVICES_WITH_TABLES:
        if schema == schema_of(service):
            await connection.execute(
                f"REVOKE INSERT, UPDATE, DELETE ON {schema}.schema_migrations"
                f" FROM {role_of(service)}"
            )
    new = await _not_yet_applied(connection, schema, migrations)
    for migration in new:
        if migration.concurrent:
            await _apply_beside_traffic(connection, schema, migration)
        else:
            # An earlier file of the same release may leave to a later one what it lacks.
            await _apply_patiently(connection, schema, migration, is_last=migration is new[-1])
    return [migration.name for migration in new]


async def _apply_patiently(
    connection: Connection, schema: str, migration: Migration, *, is_last: bool
) -> None:
    """Apply a file in a transaction, again while others hold what it locks."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            async with connection.transaction():
                await connection.execute(migration.sql)
                await _record(connection, schema, migration)
                if is_last:
                    await _refuse_violations(connection, schema, migration)
            return
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(PAUSE_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - jitter


async def _apply_beside_traffic(connection: Connection, schema: str, migration: Migration) -> None:
    """Build or drop an index; nobody waits for it, so it may wait for everybody."""
    await connection.execute("SET lock_timeout = 0")
    # What a build that died has left is in the way of the next one, and of every write.
    for row in await connection.fetch(_INVALID_INDEXES, schema):
        await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {row['name']}")
    await connection.execute(migration.sql)
    await _record(connection, schema, migration)
    await connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")


async def _record(connection: Connection, schema: str, migration: Migration) -> None:
    await connection.execute(
        f"INSERT INTO {schema}.schema_migrations (name, sha256) VALUES ($1, $2)",  # noqa: S608 - a name of ours
        migration.name,
        migration.sha256,
    )


async def _refuse_violations(connection: Connection, schema: str, last: Migration) -> None:
    if violations := await security_violations(connection, [schema]):
        raise MigrationRefused(f"{last.name} was rolled back: {'; '.join(violations)}.")


async def _not_yet_applied(
    connection: Connection, schema: str, migrations: Sequence[Migration]
) -> list[Migration]:
    rows = await connection.fetch(f"SELECT name, sha256 FROM {schema}.schema_migrations")  # noqa: S608 - a name of ours
    applied = {str(row["name"]): str(row["sha256"]) for row in rows}
    known = {migration.name for migration in migrations}
    if missing := sorted(applied.keys() - known):
        raise MigrationRefused(
            f"The schema {schema} was migrated by a newer version: it knows {', '.join(missing)}."
        )
    for migration in migrations:
        if applied.get(migration.name, migration.sha256) != migration.sha256:
            raise MigrationRefused(f"{schema}: {migration.name} was applied and changed since.")
    return [migration for migration in migrations if migration.name not in applied]


_INVALID_INDEXES: Final = """
SELECT i.indexrelid::regclass::text AS name
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
 WHERE c.relnamespace = $1::text::regnamespace AND c.relkind = 'i' AND NOT i.indisvalid
"""
