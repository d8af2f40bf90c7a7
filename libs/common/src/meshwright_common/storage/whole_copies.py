"""A database as a whole: one moment of it held open for pg_dump, and an empty one filled by psql.

All of it is done by operators, as the owner of the tables or as the superuser.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from meshwright_common.errors import FailedPrecondition
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.bootstrap import EVENTS_SCHEMA, OWNER_SERVICE, SERVICES_WITH_TABLES
from meshwright_common.storage.migrations import load
from meshwright_common.storage.postgres import (
    CONNECT_TIMEOUT_SECONDS,
    Connection,
    schema_of,
    translated_errors,
)
from meshwright_common.storage.tenancy import security_violations

MIGRATED_SCHEMAS: Final = (EVENTS_SCHEMA, *(schema_of(service) for service in SERVICES_WITH_TABLES))
SCHEMAS: Final = (*MIGRATED_SCHEMAS, "encryption")
"""With the one that the event log's migrations make. Own schemas of tenants hold partitions."""
_HAS_TRANSACTION_TIMEOUT: Final = 17


class CopyRefused(FailedPrecondition):
    """The database cannot be copied whole, or what is to be filled is not empty."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What can be seen of the database at `taken_at`, for as long as the block of `hold` lasts.

    `name` is PostgreSQL's, for pg_dump. `migrations` are the names applied, by schema,
    `master_keys` the ids of those that wrap stored keys, `checkpoints` the number of the last
    audit checkpoint by tenant.
    """

    name: str
    taken_at: datetime
    server_version: str
    migrations: Mapping[str, list[str]]
    master_keys: list[str]
    checkpoints: Mapping[str, int]


@asynccontextmanager
async def hold(settings: DatabaseSettings) -> AsyncIterator[Snapshot]:
    """Hold a snapshot open inside the block, as the owner of the tables.

    It only reads, so it has no transaction id and readers of the event log do not wait for it.
    Raises: CopyRefused when the owner would not see every row; StorageUnavailable.
    """
    with translated_errors():
        connection = await asyncpg.connect(
            settings.url_for(OWNER_SERVICE),
            timeout=CONNECT_TIMEOUT_SECONDS,
            server_settings={
                "application_name": "meshwright-backup",
                # The dump may take long, and this connection waits for it.
                "idle_in_transaction_session_timeout": "0",
                "statement_timeout": "0",
            },
        )
    try:
        with translated_errors():
            if connection.get_server_version().major >= _HAS_TRANSACTION_TIMEOUT:
                await connection.execute("SET transaction_timeout = 0")
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            snapshot = await _look(connection)
        yield snapshot
    finally:
        # Nothing was written: closing ends the transaction.
        await connection.close()


async def _look(connection: Connection) -> Snapshot:
    # The dump is the owner's, and row-level security is forced upon it too: what no policy shows
    # to it would be missing without a word.
    if violations := await security_violations(connection, SCHEMAS):
        raise CopyRefused(
            f"rows could be missing in a copy: {'; '.join(violations)}; run `meshwright migrate`"
        )
    [row] = await connection.fetch(
        "SELECT pg_export_snapshot() AS name, now() AS taken_at,"
        " current_setting('server_version') AS server_version"
    )
    migrations = {
        schema: [
            str(one["name"])
            for one in await connection.fetch(
                f"SELECT name FROM {schema}.schema_migrations ORDER BY name"  # noqa: S608 - a name of ours
            )
        ]
        for schema in MIGRATED_SCHEMAS
    }
    keys = await connection.fetch(_MASTER_KEYS)
    checkpoints = await connection.fetch(_CHECKPOINTS)
    return Snapshot(
        name=row["name"],
        taken_at=row["taken_at"],
        server_version=row["server_version"],
        migrations=migrations,
        master_keys=[str(one["master_key"]) for one in keys],
        checkpoints={str(one["tenant_id"]): int(one["number"]) for one in checkpoints},
    )


def refuse_unknown(migrations: Mapping[str, list[str]]) -> None:
    """Do nothing when this version knows all of these migrations, by schema.

    Raises: CopyRefused naming one that it does not know.
    """
    for schema, names in migrations.items():
        if schema not in MIGRATED_SCHEMAS:
            raise CopyRefused(f"this version does not know the schema {schema}: use a newer one")
        package, folder = f"meshwright_{schema}", "migrations"
        if schema == EVENTS_SCHEMA:
            package, folder = "meshwright_common", "sql"
        known = {one.name for one in load(package, folder=folder)}
        if unknown := sorted(set(names) - known):
            raise CopyRefused(
                f"this version does not know the migration {unknown[-1]} of {schema}: restore with "
                "the version that made the copy, or a newer one"
            )


async def refuse_filled(superuser_url: str, settings: DatabaseSettings) -> None:
    """Do nothing when the database has no table of ours, or does not exist.

    Raises: CopyRefused; StorageUnavailable.
    """
    with translated_errors():
        try:
            connection = await asyncpg.connect(
                url_inside(superuser_url, settings), timeout=CONNECT_TIMEOUT_SECONDS
            )
        except asyncpg.InvalidCatalogNameError:
            return
        try:
            table = await connection.fetchval(
                "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n"
                " ON n.oid = c.relnamespace WHERE n.nspname = ANY ($1::text[]) LIMIT 1",
                SCHEMAS,
            )
        finally:
            await connection.close()
    if table is not None:
        raise CopyRefused(f"the database is not empty: it has {table}; name a new one")


async def settle(settings: DatabaseSettings) -> None:
    """Make a database that was just filled ready to serve, and look at its policies.

    Relays begin anew: a broker may be new, or have lost what consumers had not read when the copy
    was made. Whoever has handled an event drops its second copy.
    Raises: CopyRefused when tenants would not be apart in it; StorageUnavailable.
    """
    with translated_errors():
        connection = await asyncpg.connect(
            settings.url_for(OWNER_SERVICE), timeout=CONNECT_TIMEOUT_SECONDS
        )
        try:
            await connection.execute(_RELAY_ANEW)
            # Plans are made by statistics, which a dump does not have.
            await connection.execute("ANALYZE")
            violations = await security_violations(connection, SCHEMAS)
        finally:
            await connection.close()
    if violations:
        raise CopyRefused(f"the restored database is not safe: {'; '.join(violations)}")


def url_inside(superuser_url: str, settings: DatabaseSettings) -> str:
    """Return the superuser's URL of the database that the settings name."""
    return urlunsplit(urlsplit(superuser_url)._replace(path=urlsplit(settings.url).path))


_RELAY_ANEW: Final = """
UPDATE events.relay_cursors SET transaction_id = '0', position = 0, day = '-infinity'
"""
# house: tenantless-sql: the owner looks at all tenants
_MASTER_KEYS: Final = """
SELECT DISTINCT master_key FROM encryption.tenant_keys WHERE wrapped IS NOT NULL ORDER BY 1
"""
# house: tenantless-sql: the owner looks at all tenants
_CHECKPOINTS: Final = """
SELECT tenant_id, max(number) AS number FROM session.audit_checkpoints GROUP BY tenant_id
"""
