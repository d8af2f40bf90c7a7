"""Keys are replaced while everybody works: nothing is lost, nothing is unreadable for a moment."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

import asyncpg
import pytest
import pytest_asyncio

from libs.common.tests.encryption import things
from meshwright_common.encryption import KeyRing, SealBroken, open_key_ring
from meshwright_common.encryption.key_rows import KeysDestroyed
from meshwright_common.encryption.master_keys import MasterKeyMissing, MasterKeys
from meshwright_common.encryption.resealing import reseal, seal_plain
from meshwright_common.encryption.rotation import (
    KeyInUse,
    data_keys,
    foreign_master_keys,
    retire,
    rewrap,
    rotate,
)
from meshwright_common.events.inspection import open_operator_database
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.encryption import encryption_settings, key_ring
from meshwright_common.testing.engines import DatabaseSettingsFor, execute_as_owner
from meshwright_common.testing.waiting import eventually

pytestmark = pytest.mark.asyncio

ME = "operator/me"
MASTERS = MasterKeys(encryption_settings())


@dataclass(frozen=True)
class Platform:
    """A service's database, and the operator's on the same server."""

    settings: DatabaseSettings
    database: Database
    operator: Database

    async def as_owner(self, sql: str) -> None:
        await execute_as_owner(self.settings, sql)

    async def rotate_at_once(self, tenant_id: str) -> None:
        """Rotate, as if every process had learnt of it."""
        assert (
            await rotate(self.operator, MASTERS, tenant_id, operator=ME, usable_after_seconds=0)
            == 1
        )

    async def fill(self, ring: KeyRing, tenant_id: str, count: int) -> dict[tuple[str, int], str]:
        """Write rows; return what should be read."""
        written = {(new_id(), number % 3): f"thing {number}" for number in range(count)}
        for (thing_id, part), text in written.items():
            await things.write(self.database, ring, tenant_id, thing_id, part, text)
        return written


@pytest_asyncio.fixture
async def platform(database_settings: DatabaseSettingsFor) -> AsyncIterator[Platform]:
    settings = await database_settings()
    await execute_as_owner(settings, things.THINGS + things.DECLARE)
    async with (
        open_database(settings, "session") as database,
        open_operator_database(settings) as operator,
    ):
        yield Platform(settings, database, operator)


@pytest.mark.promise("SEAL-02")
async def test_a_new_key_seals_and_older_ones_go_on_opening(platform: Platform) -> None:
    tenant = new_id()
    written = await platform.fill(key_ring(platform.database), tenant, 3)
    blind = (await key_ring(platform.database).keys_of(tenant)).blind(["word"])
    await platform.rotate_at_once(tenant)
    ring = key_ring(platform.database)
    written |= await platform.fill(ring, tenant, 2)
    assert await things.versions(platform.database, tenant) == {1: 3, 2: 2}
    assert await things.read(platform.database, ring, tenant) == written
    assert (await ring.keys_of(tenant)).blind(["word"]) == blind


async def test_content_of_a_version_not_yet_heard_of_opens_the_next_time(
    platform: Platform,
) -> None:
    tenant = new_id()
    slow = key_ring(platform.database)
    await slow.keys_of(tenant)
    await platform.rotate_at_once(tenant)
    written = await platform.fill(key_ring(platform.database), tenant, 1)
    with pytest.raises(SealBroken):
        await things.read(platform.database, slow, tenant)
    assert await things.read(platform.database, slow, tenant) == written


@pytest.mark.promise("SEAL-02")
async def test_a_new_key_does_not_seal_before_every_process_can_know_it(
    platform: Platform,
) -> None:
    tenant = new_id()
    await key_ring(platform.database).keys_of(tenant)
    assert await rotate(platform.operator, MASTERS, operator=ME) == 1
    # A second rotation at once is none.
    assert await rotate(platform.operator, MASTERS, operator=ME) == 0
    assert (await key_ring(platform.database).keys_of(tenant)).current == 1
    states = await data_keys(platform.operator, tenant)
    assert [(key.version, key.usable) for key in states] == [(1, True), (2, False)]


@pytest.mark.promise("SEAL-02")
async def test_keys_are_rotated_and_content_sealed_anew_under_writers_and_readers(
    platform: Platform,
) -> None:
    tenant = new_id()
    masters = ("test", "another")
    async with (
        open_key_ring(
            encryption_settings(*masters), platform.database, look_every_seconds=0.02
        ) as one,
        open_key_ring(
            encryption_settings(*masters), platform.database, look_every_seconds=0.02
        ) as two,
    ):
        written = await platform.fill(one, tenant, 60)
        names = list(written)
        stop = asyncio.Event()
        rounds = [0, 0, 0]

        async def keep_writing(ring: KeyRing, mine: int) -> None:
            while not stop.is_set():
                for name in names[mine::2]:
                    text = f"round {rounds[mine]}"
                    await things.write(platform.database, ring, tenant, *name, text)
                    written[name] = text
                rounds[mine] += 1

        async def keep_reading(ring: KeyRing) -> None:
            while not stop.is_set():
                assert len(await things.read(platform.database, ring, tenant)) == 60
                rounds[2] += 1

        async def operate() -> None:
            ring = key_ring(platform.operator, "another", "test")
            for version in (2, 3):
                assert await rotate(
                    *(platform.operator, MasterKeys(encryption_settings("another", "test"))),
                    operator=ME,
                    usable_after_seconds=0.3,
                )
                await eventually(partial(_seals, one, two, tenant, version))
                await ring.look(all_again=True)
                done = await reseal(platform.operator, ring, tenant, page=7)
                assert (done.broken, done.left) == ({}, {})
                async for _ in rewrap(
                    platform.operator, MasterKeys(encryption_settings("another", "test"))
                ):
                    pass
            stop.set()

        async with asyncio.timeout(25), asyncio.TaskGroup() as group:
            group.create_task(keep_writing(one, 0))
            group.create_task(keep_writing(two, 1))
            group.create_task(keep_reading(two))
            group.create_task(operate())
        assert min(rounds) > 0
        assert await things.versions(platform.database, tenant) == {3: 60}
        assert await things.read(platform.database, two, tenant) == written
        # Nothing needs the old master key any more.
        assert await things.read(platform.database, key_ring(platform.database, "another"), tenant)


async def _seals(one: KeyRing, two: KeyRing, tenant: str, version: int) -> bool:
    return {(await ring.keys_of(tenant)).current for ring in (one, two)} == {version}


@pytest.mark.promise("SEAL-02")
async def test_a_process_killed_while_it_seals_anew_loses_nothing_and_the_next_goes_on(
    platform: Platform,
) -> None:
    tenant = new_id()
    written = await platform.fill(key_ring(platform.database), tenant, 300)
    await platform.rotate_at_once(tenant)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "libs.common.tests.encryption.resealing_process"),
        *(platform.settings.url, tenant),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    while int(await process.stdout.readline()) < 20:
        pass
    process.kill()
    await process.wait()
    half = await things.versions(platform.database, tenant)
    assert set(half) == {1, 2}, "it was killed half-way"
    ring = key_ring(platform.database)
    assert await things.read(platform.database, ring, tenant) == written
    done = await reseal(platform.operator, key_ring(platform.operator), tenant)
    assert done.rows <= half[1]
    assert await things.versions(platform.database, tenant) == {2: 300}
    assert await things.read(platform.database, ring, tenant) == written


async def test_rows_that_do_not_open_are_counted_and_left_alone(platform: Platform) -> None:
    tenant = new_id()
    ring = key_ring(platform.database)
    await platform.fill(ring, tenant, 5)
    await platform.as_owner(
        "UPDATE session.things SET content = set_byte(content, 30, get_byte(content, 30) # 1)"
        " WHERE part = 1"
    )
    await platform.rotate_at_once(tenant)
    done = await reseal(platform.operator, key_ring(platform.operator), page=2)
    assert (done.rows, done.broken, done.left) == (3, {"session.things.content": 2}, {})
    with pytest.raises(SealBroken):
        await things.read(platform.database, ring, tenant)


async def test_a_row_that_is_being_written_is_left_and_said_to_be(platform: Platform) -> None:
    tenant = new_id()
    await platform.fill(key_ring(platform.database), tenant, 3)
    await platform.rotate_at_once(tenant)
    async with unit_of_work(platform.database, tenant) as connection:
        await connection.execute(
            "UPDATE session.things SET part = part WHERE tenant_id = $1 AND part = 0", tenant
        )
        done = await reseal(platform.operator, key_ring(platform.operator))
        assert (done.rows, done.left) == (2, {"session.things.content": 1})
    done = await reseal(platform.operator, key_ring(platform.operator))
    assert (done.rows, done.left) == (1, {})


@pytest.mark.promise("SEAL-02")
async def test_content_older_than_its_sealed_column_is_sealed_after_the_migration(
    database_settings: DatabaseSettingsFor,
) -> None:
    settings = await database_settings()
    await execute_as_owner(settings, things.THINGS)
    tenant, other = new_id(), new_id()
    rows = {(new_id(), number): f"thing {number} \N{GRINNING FACE}" for number in range(5)}
    for (thing_id, part), text in rows.items():
        for owner in (tenant, other):
            await execute_as_owner(
                settings,
                "INSERT INTO session.things VALUES"  # noqa: S608 - values of ours
                f" ('{owner}', '{thing_id}', {part}, '\\x00' || convert_to('{text}', 'UTF8'))",
            )
    await execute_as_owner(settings, things.DECLARE)
    async with (
        open_database(settings, "session") as database,
        open_operator_database(settings) as operator,
    ):
        ring = key_ring(database)
        with pytest.raises(SealBroken):
            await things.read(database, ring, tenant)
        done = await seal_plain(operator, key_ring(operator), page=2)
        assert (done.rows, done.left, done.broken) == (10, {}, {})
        for owner in (tenant, other):
            assert await things.read(database, ring, owner) == rows
        assert (await seal_plain(operator, key_ring(operator))).rows == 0


@pytest.mark.promise("SEAL-02")
async def test_a_master_key_is_replaced_page_by_page(platform: Platform) -> None:
    tenants = [new_id() for _ in range(3)]
    old = key_ring(platform.database, "old")
    blind = [(await old.keys_of(tenant)).blind(["word"]) for tenant in tenants]
    both = MasterKeys(encryption_settings("new", "old"))
    assert await foreign_master_keys(platform.operator, both) == {"old": 3}
    assert [count async for count in rewrap(platform.operator, both)] == [6]
    assert [count async for count in rewrap(platform.operator, both)] == []
    assert await foreign_master_keys(platform.operator, both) == {}
    new = key_ring(platform.database, "new")
    assert [(await new.keys_of(tenant)).blind(["word"]) for tenant in tenants] == blind
    with pytest.raises(MasterKeyMissing):
        await key_ring(platform.database, "old").keys_of(tenants[0])
    with pytest.raises(MasterKeyMissing):
        _ = [
            count
            async for count in rewrap(platform.operator, MasterKeys(encryption_settings("third")))
        ]


async def test_a_key_is_retired_only_when_nothing_can_be_sealed_by_it(platform: Platform) -> None:
    tenant = new_id()
    ring = key_ring(platform.database)
    written = await platform.fill(ring, tenant, 2)
    (thing_id, part), text = next(iter(written.items()))
    old_one = (await ring.keys_of(tenant)).seal(things.place(thing_id, part), text.encode())
    with pytest.raises(KeyInUse, match="is the newest"):
        await retire(platform.operator, tenant, 1, operator=ME)
    await platform.rotate_at_once(tenant)
    with pytest.raises(KeyInUse, match="less than 2 days ago"):
        await retire(platform.operator, tenant, 1, operator=ME)
    await platform.as_owner(
        "UPDATE encryption.tenant_keys SET usable_at = now() - interval '3 days' WHERE version = 2"
    )
    with pytest.raises(KeyInUse, match="seal them anew first"):
        await retire(platform.operator, tenant, 1, operator=ME)
    await reseal(platform.operator, key_ring(platform.operator), tenant)
    async with unit_of_work(platform.database, tenant) as connection:
        await connection.execute(
            "UPDATE session.things SET content = $4"
            " WHERE tenant_id = $1 AND thing_id = $2 AND part = $3",
            *(tenant, thing_id, part, old_one),
        )
    with pytest.raises(KeyInUse, match=r"1 in session\.things\.content"):
        await retire(platform.operator, tenant, 1, operator=ME)
    await reseal(platform.operator, key_ring(platform.operator), tenant)
    await platform.as_owner(
        "ALTER TABLE session.things ADD made_at timestamptz DEFAULT now();"
        "SELECT encryption.declare_objects('session.things', 'made_at')"
    )
    with pytest.raises(KeyInUse, match=r"2 in session\.things"):
        await retire(platform.operator, tenant, 1, operator=ME)
    await platform.as_owner("UPDATE session.things SET made_at = now() + interval '6 minutes'")
    assert await retire(platform.operator, tenant, 1, operator=ME)
    assert not await retire(platform.operator, tenant, 1, operator=ME)
    fresh = key_ring(platform.database)
    assert await things.read(platform.database, fresh, tenant) == written
    told = await platform.operator.pool.fetch(
        "SELECT convert_from(body, 'UTF8')::jsonb -> 'data' AS act FROM events.outbox"
        " WHERE tenant_id = $1 ORDER BY position",
        tenant,
    )
    acts = [(row["act"]["actor"], row["act"]["action"], row["act"]["resource"]) for row in told]
    assert acts == [(ME, "key.rotated", "key/2"), (ME, "key.retired", "key/1")]
    assert [key.version for key in await data_keys(platform.operator, tenant)] == [2]


async def test_a_deleted_tenant_gets_no_new_key(platform: Platform) -> None:
    tenant = new_id()
    ring = key_ring(platform.database)
    await ring.keys_of(tenant)
    await ring.forget_tenant(tenant)
    assert await rotate(platform.operator, MASTERS, operator=ME) == 0
    assert not await platform.operator.pool.fetchval(
        "SELECT encryption.add_key($1, 2, 'test', '', 0)", tenant
    )
    with pytest.raises(KeysDestroyed):
        await ring.keys_of(tenant)


async def test_only_columns_of_bytes_are_declared_as_sealed(platform: Platform) -> None:
    with pytest.raises(asyncpg.RaiseError, match="no column part of type bytea"):
        await platform.as_owner(
            "SELECT encryption.declare_sealed('session.things', 'part', 'thing_id')"
        )
    with pytest.raises(asyncpg.RaiseError, match="has no column made_at"):
        await platform.as_owner("SELECT encryption.declare_objects('session.things', 'made_at')")
