"""`meshwright keys` as operators type it: on a database of their own, and beside a platform."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import asyncpg
import httpx
import pytest

from meshwright_cli.exits import Exit
from meshwright_common.ids import new_id
from meshwright_common.storage.postgres import open_database
from meshwright_common.testing.encryption import VARIABLE, encryption_settings, key_ring
from meshwright_common.testing.engines import PostgresServer
from tests.asking import ask, turn_id_of
from tests.platform_process import Platform, run_command
from tests.security.rows import superuser_url
from tests.tenants import NewTenant, new_tenant

SLUG = "apart"


@dataclass(frozen=True)
class Kept:
    """A database with a tenant that has keys."""

    tenant_id: str
    environment: Mapping[str, str]
    superuser_url: str

    def with_keys(self, *names: str) -> dict[str, str]:
        """Return the settings with other master keys."""
        return {**self.environment, VARIABLE: encryption_settings(*names).master_keys}


@pytest.fixture
def kept(postgres_server: PostgresServer) -> Iterator[Kept]:
    tenant_id = new_id()

    async def make() -> str:
        name = await postgres_server.clone("meshwright_session")
        connection = await asyncpg.connect(postgres_server.superuser_url_of(name))
        await connection.execute(
            "INSERT INTO session.tenants (tenant_id, slug, display_name, plan, first_owner_id)"
            " VALUES ($1, $2, 'Apart', 'starter', $1)",
            tenant_id,
            SLUG,
        )
        await connection.close()
        async with open_database(postgres_server.settings_of(name), "session") as database:
            await key_ring(database, "old").keys_of(tenant_id)
        return name

    name = asyncio.run(make())
    environment = {"MESHWRIGHT_DATABASE__URL": postgres_server.settings_of(name).url}
    yield Kept(tenant_id, environment, postgres_server.superuser_url_of(name))
    asyncio.run(postgres_server.drop(name))


def keys(environment: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """Run `meshwright keys …`; return its code and what it said."""
    done = run_command("keys", *arguments, environment=environment)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.promise("SEAL-07")
@pytest.mark.timeout(170)
def test_operators_look_at_keys_rotate_them_and_replace_the_master_key(kept: Kept) -> None:
    old, both = kept.with_keys("old"), kept.with_keys("new", "old")
    code, said = keys(old, "rotate", "--tenant", SLUG)
    assert (code, "1 new data keys" in said) == (Exit.OK, True), said
    assert keys(both, "rewrap") == (Exit.OK, "3 keys wrapped anew\n")
    code, said = keys(kept.with_keys("new"), "status", "--json", "--tenant", kept.tenant_id)
    status = json.loads(said)
    assert (status["master_key"], status["tenants_by_other_master_key"]) == ("new", {})
    versions = [(key["version"], key["master_key"], key["usable"]) for key in status["data_keys"]]
    assert versions == [(1, "new", True), (2, "new", False)]
    code, said = keys(old, "status")
    assert code == Exit.OK
    assert "master key new: wraps keys of 1 tenants, AND IS NOT SET" in said
    code, said = keys(kept.with_keys("new"), "retire", "--tenant", SLUG, "--version", "1", "--yes")
    assert (code, "less than 2 days ago" in said) == (Exit.FAILED, True), said


@pytest.mark.promise("SEAL-04")
@pytest.mark.timeout(170)
def test_what_cannot_be_done_is_refused_by_its_name(kept: Kept) -> None:
    code, said = keys(kept.environment, "status")
    assert (code, VARIABLE in said) == (Exit.REFUSED, True), said
    code, said = keys(kept.with_keys("old"), "reseal", "--tenant", "nobody")
    assert (code, "there is no tenant 'nobody'" in said) == (Exit.REFUSED, True), said
    code, said = keys(kept.with_keys("old"), "rotate")
    assert (code, "--all" in said) == (Exit.REFUSED, True), said


@pytest.mark.promise("SEAL-02")
@pytest.mark.timeout(240)
@pytest.mark.parametrize("platform", ["split"], indirect=True)
def test_keys_are_rotated_and_content_sealed_anew_while_turns_run(platform: Platform) -> None:
    tenant = new_tenant(platform)
    turns: dict[str, str] = {}
    stop = threading.Event()
    with platform.client(tenant.api_key) as client, ThreadPoolExecutor(1) as pool:
        _ask(client, turns)
        asking = pool.submit(_keep_asking, client, turns, stop)
        data = ("--data", str(platform.data))
        try:
            for act in ("rotate", "reseal", "reseal"):
                code, said = keys(platform.environment, act, "--tenant", tenant.tenant_id, *data)
                assert code == Exit.OK, said
        finally:
            stop.set()
        asking.result()
        assert len(turns) > 2
        for turn_id, word in turns.items():
            turn = client.get(f"/api/v1/turns/{turn_id}").json()
            assert (turn["state"], word in turn["question"]) == ("completed", True), turn
            messages = client.get(f"/api/v1/sessions/{turn['session_id']}/messages").text
            assert word in messages
    assert asyncio.run(_versions(platform, tenant)) == {2}


def _keep_asking(client: httpx.Client, turns: dict[str, str], stop: threading.Event) -> None:
    while not stop.wait(0.2):
        _ask(client, turns)


def _ask(client: httpx.Client, turns: dict[str, str]) -> None:
    word = secrets.token_hex(8)
    turns[turn_id_of(ask(client, f"Say {word}", agent="chat"))] = word


async def _versions(platform: Platform, tenant: NewTenant) -> set[int]:
    """Return which versions of the data key seal anything of a tenant."""
    connection = await asyncpg.connect(superuser_url(platform))
    try:
        found: set[int] = set()
        for row in await connection.fetch("SELECT * FROM encryption.sealed_columns"):
            column = row["sealed_column"]
            versions = await connection.fetch(
                f"SELECT DISTINCT get_byte({column}, 4) AS version FROM {row['relation']}"  # noqa: S608 - names from the catalogue
                f" WHERE tenant_id = $1 AND {column} IS NOT NULL",
                tenant.tenant_id,
            )
            found |= {one["version"] for one in versions}
        return found
    finally:
        await connection.close()
