"""Keys and objects that can be forgotten, on each engine there is (S12, I8)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from libs.common.tests.storage.buckets import make_bucket
from meshwright_common.erasure.objects import StoredObjects
from meshwright_common.erasure.redis_keys import StoredKeys
from meshwright_common.erasure.stored import Subject, erase_stored
from meshwright_common.ids import new_id
from meshwright_common.settings import ObjectSettings, RedisSettings
from meshwright_common.storage.objects import ObjectStore, object_key, open_objects
from meshwright_common.storage.redis import RedisClient, open_redis, tenant_key
from meshwright_common.testing.patience import patient_redis

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]


@pytest_asyncio.fixture(params=["server", "cluster"])
async def client(
    request: pytest.FixtureRequest, redis_settings: RedisSettings
) -> AsyncIterator[RedisClient]:
    settings = redis_settings
    if request.param == "cluster":
        settings = patient_redis(request.getfixturevalue("redis_cluster"))
    async with open_redis(settings) as opened:
        yield opened


@pytest_asyncio.fixture(params=["files", "bucket"])
async def objects(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    if request.param == "files":
        async with open_objects(ObjectSettings(url=f"file://{tmp_path}/objects")) as opened:
            yield opened
        return
    async with (
        make_bucket(request.getfixturevalue("server_address")("s3")) as bucket,
        open_objects(bucket.settings) as opened,
    ):
        yield opened


async def test_a_tenants_keys_of_a_family_go_and_no_others(client: RedisClient) -> None:
    tenant, other = new_id(), new_id()
    mine = [tenant_key(tenant, "turn", str(number), "events") for number in range(1500)]
    kept = [tenant_key(tenant, "turning", "1"), tenant_key(other, "turn", "1", "events")]
    for key in (*mine, *kept):
        await client.set(key, b"1")
    [found] = await erase_stored([StoredKeys(client, "turn")], Subject(tenant))
    assert (found.store, found.removed, found.remaining) == ("redis:turn", 1500, 0)
    assert [await client.exists(key) for key in kept] == [1, 1]


async def test_a_users_keys_are_those_that_the_service_names(client: RedisClient) -> None:
    tenant, user = new_id(), new_id()
    theirs, others = tenant_key(tenant, "turn", "1"), tenant_key(tenant, "turn", "2")

    async def of_user(subject: Subject) -> AsyncGenerator[Sequence[str], None]:
        yield ()
        yield [theirs] if subject.user_id == user else []

    for key in (theirs, others):
        await client.set(key, b"1")
    [found] = await erase_stored([StoredKeys(client, "turn", of_user)], Subject(tenant, user))
    assert (found.removed, found.remaining) == (1, 0)
    assert [await client.exists(key) for key in (theirs, others)] == [0, 1]


async def test_a_tenants_objects_of_a_folder_go_and_no_others(objects: ObjectStore) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield b"content"

    tenant, other = new_id(), new_id()
    mine = [object_key(tenant, "documents", name) for name in ("one", "two")]
    mine.append(object_key(tenant, "documents", "below", "three"))
    kept = [object_key(tenant, "audit", "1"), object_key(other, "documents", "one")]
    for key in (*mine, *kept):
        await objects.put(key, content())
    [found] = await erase_stored([StoredObjects(objects, "documents")], Subject(tenant))
    assert (found.store, found.removed, found.remaining) == ("objects:documents", 3, 0)
    assert [await objects.exists(key) for key in (*mine, *kept)] == [False] * 3 + [True] * 2


async def test_a_users_objects_are_those_in_the_users_folder(objects: ObjectStore) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield b"content"

    tenant, user, colleague = new_id(), new_id(), new_id()
    theirs = object_key(tenant, "archives", user, "one")
    others = object_key(tenant, "archives", colleague, "one")
    for key in (theirs, others):
        await objects.put(key, content())
    named = StoredObjects(objects, "archives", by_user=True)
    [found] = await erase_stored([named], Subject(tenant, user))
    assert (found.removed, found.remaining) == (1, 0)
    nameless = StoredObjects(objects, "archives")
    [found] = await erase_stored([nameless], Subject(tenant, colleague))
    assert (found.removed, found.remaining) == (0, 0)
    assert [await objects.exists(key) for key in (theirs, others)] == [False, True]
