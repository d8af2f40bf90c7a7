"""A tenant of the running platform gets a schema of its own (S8)."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
import httpx
import pytest

from meshwright_common.storage.bootstrap import SERVICES_WITH_TABLES
from meshwright_common.storage.placement import schema_of_tenant
from meshwright_common.storage.postgres import schema_of
from meshwright_common.storage.tenancy import security_violations
from tests.asking import ask, indexed
from tests.platform_process import Platform, run_command
from tests.security.rows import rows_of_tenant, superuser_url
from tests.security.things import CANARY, furnish
from tests.tenants import new_tenant

CONTENT = {
    *("session.sessions", "session.messages", "session.turn_commits", "session.notifications"),
    *("chat.turns", "orchestrator.tasks", "orchestrator.steps", "tool_exec.calls"),
    *("rag.knowledge_bases", "rag.documents", "rag.passages"),
}
PLACED = """
    SELECT format('%I.%I', n.nspname, parent.relname) AS name,
           format('%I.%I', $1::text, n.nspname || '_' || parent.relname) AS own
      FROM pg_partitioned_table p
      JOIN pg_class parent ON parent.oid = p.partrelid
      JOIN pg_namespace n ON n.oid = parent.relnamespace
      JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
     WHERE p.partstrat = 'l' AND a.attname = 'tenant_id'
"""


@pytest.mark.promise("PLACE-01")
@pytest.mark.promise("PLACE-02")
def test_tenant_that_moves_keeps_everything_and_nobody_notices(
    platform: Platform, client: httpx.Client
) -> None:
    tenant = new_tenant(platform)
    with platform.client(tenant.api_key) as owner:
        ids = furnish(owner, tenant.api_key).ids
        answers = said_to(owner, ids)
        before = content_of(platform, tenant.tenant_id)
        with asking_all_the_while(client) as turns:
            placed = moved(platform, tenant.tenant_id)
        assert len(turns) >= 2
        assert set(turns) == {"turn.completed"}
        assert sum(one["rows"] for one in placed.values()) > 20
        assert content_of(platform, tenant.tenant_id) == before
        assert said_to(owner, ids) == answers
        # And it goes on: in its session, and with another document.
        assert ask(owner, "And now?", session_id=ids["session_id"])[-1].name == "turn.completed"
        document = indexed(owner, "second.txt", f"A second {CANARY}.".encode())
        assert document["state"] == "ready"
    asyncio.run(check_where(platform, tenant.tenant_id))


def content_of(platform: Platform, tenant_id: str) -> dict[str, tuple[int, str]]:
    """Return the count and the digest of the tenant's rows by table of content."""
    rows = asyncio.run(rows_of_tenant(platform, tenant_id))
    assert all(rows[table][0] for table in CONTENT)
    return {table: rows[table] for table in CONTENT}


def said_to(owner: httpx.Client, ids: dict[str, str]) -> list[object]:
    """Return what the tenant is told about its things."""
    paths = (
        f"sessions/{ids['session_id']}",
        f"sessions/{ids['session_id']}/messages",
        f"turns/{ids['turn_id']}",
        f"tasks/{ids['task_id']}",
        f"documents/{ids['document_id']}",
        f"knowledge-bases/{ids['knowledge_base_id']}",
    )
    answers = [owner.get(f"/api/v1/{path}") for path in paths]
    assert [answer.status_code for answer in answers] == [200] * len(paths)
    found = owner.post("/api/v1/search", json={"query": f"password {CANARY}"}).json()
    assert found["passages"]
    return [*(answer.json() for answer in answers), found["passages"]]


@contextmanager
def asking_all_the_while(client: httpx.Client) -> Iterator[list[str]]:
    """Let another tenant have turn after turn; give the names of their last events."""
    ended = threading.Event()
    turns: list[str] = []

    def go_on() -> None:
        while not ended.is_set() or len(turns) < 2:
            turns.append(ask(client, "Hello", agent="chat")[-1].name)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield turns
    finally:
        ended.set()
        thread.join(timeout=60)
    assert not thread.is_alive()


async def check_where(platform: Platform, tenant_id: str) -> None:
    """Check that everything of the tenant, and nothing else, lies in its schema."""
    schema = schema_of_tenant(tenant_id)
    connection = await asyncpg.connect(superuser_url(platform))
    try:
        holding = set()
        for row in await connection.fetch(PLACED, schema):
            # The names come from the catalogue, quoted by it.
            everything = f"SELECT count(*) FROM {row['name']} WHERE tenant_id = $1"  # noqa: S608
            own = f"SELECT count(*), count(*) FILTER (WHERE tenant_id <> $1) FROM {row['own']}"  # noqa: S608
            found = await connection.fetchrow(own, tenant_id)
            assert found is not None
            count, foreign = found
            assert foreign == 0
            assert count == await connection.fetchval(everything, tenant_id), row["name"]
            holding |= {row["name"]} if count else set()
        assert holding >= CONTENT
        schemas = ["events", *map(schema_of, SERVICES_WITH_TABLES)]
        assert await security_violations(connection, schemas) == []
        for service in SERVICES_WITH_TABLES:
            role = f"meshwright_{schema_of(service)}"
            may_use = "SELECT has_schema_privilege($1, $2, 'USAGE, CREATE')"
            assert not await connection.fetchval(may_use, role, schema), role
    finally:
        await connection.close()


def moved(platform: Platform, tenant_id: str) -> dict[str, dict[str, Any]]:
    """Move a tenant as the operator does; return what was moved, by service."""
    done = run_command(
        *("tenants", "move", tenant_id, "--own-schema", "--json", "--data", str(platform.data)),
        environment=platform.environment,
    )
    assert done.returncode == 0, done.stderr
    placed: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return placed
