"""What a running platform has stored, seen past all its services: rows and objects."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Final

import asyncpg
import httpx

from bench import platform_target
from meshwright_cli.engines.attach import database_of
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.embedded.postgres import SUPERUSER
from meshwright_common.testing.patience import patient_database
from tests.platform_process import Platform

SETTLE_SECONDS: Final = 40.0
"""Where a vector index has to be made first, memories are put into it after a pause."""
INDEX_WORK: Final = "session.memory_index_work"
"""Work that waits for its time: while there is some, the rows only seem to be at rest."""
LOOK_EVERY_SECONDS: Final = 0.3

_TABLES: Final = """
    SELECT format('%I.%I', namespace.nspname, class.relname)
    FROM pg_attribute attribute
    JOIN pg_class class ON class.oid = attribute.attrelid
    JOIN pg_namespace namespace ON namespace.oid = class.relnamespace
    WHERE attribute.attname = 'tenant_id' AND class.relkind IN ('r', 'p')
      AND NOT class.relispartition
      AND class.relname NOT IN ('audit_checkpoints', 'audit_heads', 'tenant_keys')
    ORDER BY 1
"""
"""All but checkpoints and who knows the last one, and how often keys were used: what comes by
itself, when it is time."""


RESTLESS: Final = {
    # Looked at every 30 s, whether something is due or not.
    "orchestrator.workflow_runs": ("revision", "due_at", "held_until"),
    # Tried again and again: nobody listens at the address.
    "session.webhook_deliveries": (
        *("state", "attempts", "next_attempt_at", "last_status", "last_error"),
        *("last_duration_milliseconds", "end_time"),
    ),
    # Watched over, and nobody listens at the address.
    "tool_exec.mcp_servers": ("state", "failure", "keeper", "kept_until"),
    "tool_exec.mcp_changes": ("changed",),
}
"""Columns that change by themselves, by table."""


async def rows_of_tenant(platform: Platform, tenant_id: str) -> dict[str, tuple[int, str]]:
    """Return the count and the digest of a tenant's rows by table, when they change no more.

    Raises: AssertionError when they are still changing after 40 seconds.
    """
    connection = await asyncpg.connect(superuser_url(platform))
    try:
        tables = [row[0] for row in await connection.fetch(_TABLES)]
        assert len(tables) > 20
        deadline = time.monotonic() + SETTLE_SECONDS
        before: dict[str, tuple[int, str]] = {}
        while True:
            seen = {table: await _digest(connection, table, tenant_id) for table in tables}
            if seen == before and seen[INDEX_WORK][0] == 0:
                return seen
            assert time.monotonic() < deadline, "the rows do not come to rest"
            before = seen
            await asyncio.sleep(LOOK_EVERY_SECONDS)
    finally:
        await connection.close()


async def _digest(connection: asyncpg.Connection, table: str, tenant_id: str) -> tuple[int, str]:
    restless = ", ".join(f"'{column}'" for column in RESTLESS.get(table, ()))
    row = f"(to_jsonb(t) - ARRAY[{restless}])::text" if restless else "t::text"
    found = await connection.fetchrow(
        # The name comes from the catalogue, quoted by it.
        f"SELECT count(*), md5(coalesce(string_agg({row}, '|' ORDER BY {row}), '')) "  # noqa: S608
        f"FROM {table} t WHERE t.tenant_id = $1",
        tenant_id,
    )
    assert found is not None
    return found[0], found[1]


async def open_row_level_security(platform: Platform) -> None:
    """Let every row pass every policy of tenants, as if there were none."""
    connection = await asyncpg.connect(superuser_url(platform))
    try:
        tables = await connection.fetch(
            "SELECT polrelid::regclass::text FROM pg_policy WHERE polname = 'tenant_isolation'"
        )
        for (table,) in tables:
            await connection.execute(f"ALTER POLICY tenant_isolation ON {table} USING (true)")
    finally:
        await connection.close()


def superuser_url(platform: Platform) -> str:
    """Return the URL that only the owner of the data folder, or of the server, can make."""
    if url := platform.environment.get("MESHWRIGHT_DATABASE__URL"):
        # On the servers for tests, roles have the superuser's password.
        return url.replace("meshwright_{service}:", f"{SUPERUSER}:")
    return platform_target.superuser_url(platform.data)


def owner_settings(platform: Platform) -> DatabaseSettings:
    """Return what the operator connects with who migrates."""
    if url := platform.environment.get("MESHWRIGHT_DATABASE__URL"):
        return patient_database(url)
    return database_of(platform.data, patient_database("embedded:"))


def stored_objects(platform: Platform) -> set[Path]:
    """Return every file of the object folder or bucket, also those that are still being written."""
    if endpoint := platform.environment.get("MESHWRIGHT_OBJECTS__ENDPOINT"):
        bucket = platform.environment["MESHWRIGHT_OBJECTS__URL"].rpartition("@")[2]
        url = f"{endpoint}/{bucket}"
        keys = _KEY.findall(httpx.get(url, params={"uploads": ""}).text)
        page = [""]
        while page:
            # A thousand at a time.
            parameters = {"list-type": "2", "start-after": page[-1]}
            page = _KEY.findall(httpx.get(url, params=parameters).text)
            keys += page
        return {Path(key) for key in keys}
    folder = platform.data / "objects"
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


_KEY: Final = re.compile(r"<Key>([^<]*)</Key>")


def uploaded_objects(platform: Platform) -> set[Path]:
    """Return those of `stored_objects` that no service makes by itself, when it is time."""
    kept = {"archives", "audit", "contexts"}
    return {one for one in stored_objects(platform) if not kept.intersection(one.parts)}
