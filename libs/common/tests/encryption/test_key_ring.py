"""The keys of tenants in PostgreSQL: one per tenant whoever comes first, followed by everybody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest
import pytest_asyncio

from meshwright_common.encryption import KeyRing, Place, SealBroken, open_key_ring
from meshwright_common.encryption.key_rows import MAX_SEALS, KeysDestroyed
from meshwright_common.encryption.master_keys import MasterKeyMissing
from meshwright_common.errors import InvalidArgument
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.postgres import Database, StorageUnavailable, open_database
from meshwright_common.storage.tenancy import security_violations, unit_of_work, unscoped
from meshwright_common.testing.encryption import encryption_settings, key_ring
from meshwright_common.testing.engines import DatabaseSettingsFor, execute_as_owner
from meshwright_common.testing.waiting import eventually

pytestmark = pytest.mark.asyncio

PLACE = Place("session.things", "content", "1")


@pytest_asyncio.fixture
async def settings(database_settings: DatabaseSettingsFor) -> DatabaseSettings:
    return await database_settings()


@pytest_asyncio.fixture
async def database(settings: DatabaseSettings) -> AsyncIterator[Database]:
    async with open_database(settings, "session") as opened:
        yield opened


@pytest.mark.promise("SEAL-02")
async def test_processes_that_come_at_once_get_the_same_key(database: Database) -> None:
    tenant = new_id()
    rings = [key_ring(database) for _ in range(8)]
    all_keys = await asyncio.gather(*(ring.keys_of(tenant) for ring in rings for _ in range(2)))
    for keys in all_keys:
        for other in all_keys:
            assert other.open(PLACE, keys.seal(PLACE, b"x")) == b"x"
        assert keys.blind(["word"]) == all_keys[0].blind(["word"])
    async with unit_of_work(database, tenant) as connection:
        rows = await connection.fetch(
            "SELECT purpose FROM encryption.tenant_keys WHERE tenant_id = $1 ORDER BY 1", tenant
        )
    assert [row["purpose"] for row in rows] == ["blind", "seal"]


async def test_tenants_have_keys_of_their_own(database: Database) -> None:
    ring = key_ring(database)
    mine, theirs = [await ring.keys_of(new_id()) for _ in range(2)]
    assert mine.blind(["word"]) != theirs.blind(["word"])
    with pytest.raises(SealBroken):
        theirs.open(PLACE, mine.seal(PLACE, b"x"))


async def test_keys_are_loaded_once_and_whatever_way_the_id_is_written(database: Database) -> None:
    ring, tenant = key_ring(database), new_id()
    keys = await ring.keys_of(tenant)
    assert await ring.keys_of(tenant) is keys
    assert (await ring.keys_of(tenant.upper())).tenant_id == tenant
    with pytest.raises(InvalidArgument, match="tenant_id"):
        await ring.keys_of("no id")


@pytest.mark.promise("SEAL-03")
async def test_the_role_of_a_service_changes_no_key_and_sees_no_other_tenants(
    database: Database,
) -> None:
    ring, tenant = key_ring(database), new_id()
    await ring.keys_of(tenant)
    for statement in (
        "UPDATE encryption.tenant_keys SET wrapped = '' WHERE tenant_id = $1",
        "DELETE FROM encryption.tenant_keys WHERE tenant_id = $1",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with unit_of_work(database, tenant) as connection:
                await connection.execute(statement, tenant)
    for scope in (unit_of_work(database, new_id()), unscoped(database)):
        async with scope as connection:
            assert (
                await connection.fetch(
                    "SELECT FROM encryption.tenant_keys WHERE tenant_id = $1", tenant
                )
                == []
            )


async def test_the_tables_of_keys_are_protected_as_all_are(settings: DatabaseSettings) -> None:
    connection = await asyncpg.connect(settings.url_for("owner"))
    try:
        assert await security_violations(connection, ["encryption"]) == []
    finally:
        await connection.close()


async def test_only_the_service_that_deletes_tenants_destroys_keys(
    settings: DatabaseSettings,
) -> None:
    async with open_database(settings, "chat") as chat:
        ring, tenant = key_ring(chat), new_id()
        await ring.keys_of(tenant)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ring.forget_tenant(tenant)


@pytest.mark.promise("SEAL-05")
async def test_destroyed_keys_open_nothing_five_seconds_later_and_are_not_made_again(
    settings: DatabaseSettings, database: Database
) -> None:
    tenant, never_used = new_id(), new_id()
    async with AsyncExitStack() as stack:
        mine = await stack.enter_async_context(open_key_ring(encryption_settings(), database))
        chat = await stack.enter_async_context(open_database(settings, "chat"))
        theirs = await stack.enter_async_context(open_key_ring(encryption_settings(), chat))
        await theirs.keys_of(tenant)
        await mine.forget_tenant(tenant)
        await mine.forget_tenant(tenant)
        await mine.forget_tenant(never_used)
        with pytest.raises(KeysDestroyed):
            await mine.keys_of(tenant)

        async def refused() -> bool:
            try:
                await theirs.keys_of(tenant)
            except KeysDestroyed:
                return True
            return False

        await eventually(refused)
        with pytest.raises(KeysDestroyed):
            await theirs.keys_of(never_used)
    async with unit_of_work(database, tenant) as connection:
        left = await connection.fetchval(
            "SELECT count(wrapped) FROM encryption.tenant_keys WHERE tenant_id = $1", tenant
        )
    assert left == 0


async def test_keys_go_on_being_used_while_the_database_is_away(
    settings: DatabaseSettings,
) -> None:
    tenant = new_id()
    async with (
        open_database(settings, "session") as database,
        open_key_ring(encryption_settings(), database, look_every_seconds=0.01) as ring,
    ):
        keys = await ring.keys_of(tenant)
        await database.pool.close()
        with pytest.raises(StorageUnavailable):
            await ring.look()
        assert await ring.keys_of(tenant) is keys
        with pytest.raises(StorageUnavailable):
            await ring.keys_of(new_id())


@pytest.mark.promise("SEAL-02")
async def test_a_key_that_has_sealed_enough_or_is_old_is_followed_by_another(
    settings: DatabaseSettings, database: Database
) -> None:
    by_use, by_age = new_id(), new_id()
    ring = key_ring(database)
    for tenant in (by_use, by_age):
        keys = await ring.keys_of(tenant)
        keys.seal(PLACE, b"x")
    await ring.count()
    await ring.count()
    async with unit_of_work(database, by_use) as connection:
        seals = await connection.fetchval(
            "SELECT seals FROM encryption.tenant_keys WHERE tenant_id = $1 AND purpose = 'seal'",
            by_use,
        )
    assert seals == 1
    await execute_as_owner(
        settings,
        f"UPDATE encryption.tenant_keys SET seals = {MAX_SEALS} WHERE tenant_id = '{by_use}';"  # noqa: S608 - values of ours
        "UPDATE encryption.tenant_keys SET created_at = now() - interval '91 days'"
        f" WHERE tenant_id = '{by_age}'",
    )
    for tenant in (by_use, by_age):
        # Not yet the newer one: other processes do not know it.
        assert (await key_ring(database).keys_of(tenant)).current == 1
        await execute_as_owner(
            settings, "UPDATE encryption.tenant_keys SET usable_at = now() WHERE version = 2"
        )
        assert (await key_ring(database).keys_of(tenant)).current == 2


async def test_a_master_key_that_is_not_set_is_missed_by_its_name(database: Database) -> None:
    tenant = new_id()
    await key_ring(database, "old").keys_of(tenant)
    with pytest.raises(MasterKeyMissing) as missing:
        await key_ring(database, "new").keys_of(tenant)
    assert missing.value.master_key == "old"
    ring: KeyRing = key_ring(database, "new", "old")
    assert (await ring.keys_of(tenant)).current == 1
