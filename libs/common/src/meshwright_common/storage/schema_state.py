"""Whether a database is already as this version would make it: one connection instead of ten."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import asyncpg

from meshwright_common.storage.bootstrap import EVENTS_SCHEMA, fingerprint
from meshwright_common.storage.migrations import load
from meshwright_common.storage.postgres import (
    CONNECT_TIMEOUT_SECONDS,
    schema_of,
    translated_errors,
)


async def is_current(owner_url: str, services: Sequence[str]) -> bool:
    """Return whether bootstrap and all migrations of this version are recorded, and no others.

    Also fits a log that was restored from another server to this one. False when in doubt: the
    long way then finds out, and says what is wrong. Raises: StorageUnavailable.
    """
    expected = {
        (EVENTS_SCHEMA, one.name, one.sha256) for one in load("meshwright_common", folder="sql")
    }
    for service in services:
        schema = schema_of(service)
        expected |= {(schema, one.name, one.sha256) for one in load(f"meshwright_{schema}")}
    schemas = [EVENTS_SCHEMA, *(schema_of(service) for service in services)]
    applied = " UNION ALL ".join(
        f"SELECT '{schema}' AS schema, name, sha256 FROM {schema}.schema_migrations"  # noqa: S608 - names of ours
        for schema in schemas
    )
    # A server or database that is not there yet, or has other passwords, is not current.
    with translated_errors(), contextlib.suppress(asyncpg.PostgresError):
        connection = await asyncpg.connect(owner_url, timeout=CONNECT_TIMEOUT_SECONDS)
        try:
            recorded = await connection.fetchval(
                "SELECT shobj_description(oid, 'pg_database') FROM pg_database"
                " WHERE datname = current_database()"
            )
            if recorded != fingerprint():
                return False
            rows = await connection.fetch(applied)
            if {(row["schema"], row["name"], row["sha256"]) for row in rows} != expected:
                return False
            await connection.execute("SELECT events.rebase()")
            return True
        finally:
            await connection.close()
    return False
