"""A real cluster of three: keys on all of them, slots that move, a node that dies (F-12, F-13)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster as ClusterClient
from redis.crc import key_slot

from meshwright_common.ids import new_id
from meshwright_common.settings import RedisSettings, SettingsError
from meshwright_common.storage.redis import (
    CacheUnavailable,
    RedisClient,
    node_of,
    open_redis,
    tenant_key,
    translated_errors,
)
from meshwright_common.testing.patience import patient_redis
from meshwright_common.testing.servers.redis import RedisCluster
from meshwright_common.testing.waiting import eventually

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]


@pytest.fixture
def cluster_of_ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A cluster that the test breaks."""
    cluster = RedisCluster(tmp_path_factory.mktemp("cluster"))
    cluster.start()
    yield cluster
    cluster.stop()


async def increment(client: RedisClient, key: str) -> int:
    with translated_errors():
        return int(await client.incr(key))


async def serves(client: RedisClient, *keys: str) -> bool:
    try:
        for key in keys:
            await increment(client, key)
    except CacheUnavailable:
        return False
    return True


async def execute(node: Redis, *command: str | int) -> str:
    answer = await node.execute_command(*command)  # type: ignore[no-untyped-call]
    return str(answer.decode()) if isinstance(answer, bytes) else str(answer)


def keys_on_every_node(client: ClusterClient) -> list[str]:
    """Return a key of some tenant for each node."""
    found: dict[str, str] = {}
    while len(found) < 3:
        key = tenant_key(new_id(), "counter")
        node = client.get_node_from_key(key)
        assert node is not None
        found.setdefault(node.name, key)
    return list(found.values())


async def test_keys_of_tenants_are_on_every_node(redis_cluster: str) -> None:
    async with open_redis(patient_redis(redis_cluster)) as client:
        assert isinstance(client, ClusterClient)
        await client.ping()
        for key in keys_on_every_node(client):
            assert await increment(client, key) == 1


async def test_the_limits_are_those_of_one_server(redis_cluster: str) -> None:
    """D7."""
    async with open_redis(RedisSettings(url=redis_cluster)) as client:
        assert isinstance(client, ClusterClient)
        await client.ping()
        arguments = client.get_connection_kwargs()
        assert arguments["socket_timeout"] == 0.5
        assert arguments["socket_connect_timeout"] == 0.5
        assert arguments["health_check_interval"] == 15
        assert arguments["max_connections"] == 50
        assert client.retry.get_retries() == 1


async def test_no_cancellation_is_lost_at_whatever_moment_it_comes(redis_cluster: str) -> None:
    """As with one server, see test_redis.py."""
    async with open_redis(patient_redis(redis_cluster)) as client:
        key = tenant_key(new_id(), "counter")
        for turns in range(20):
            await increment(client, key)
            command = asyncio.create_task(client.execute_command("GET", key))
            for _ in range(turns):
                await asyncio.sleep(0)
            if command.cancel():
                await asyncio.wait([command])
                assert command.cancelled(), f"after {turns} turns of the loop"


async def test_no_connection_outlives_its_client(redis_cluster: str) -> None:
    async with open_redis(patient_redis(redis_cluster)) as watcher:
        await watcher.ping(target_nodes=ClusterClient.ALL_NODES)
        before = await connections(watcher)
        clients, commands = [], []
        for turns in range(0, 80, 4):
            async with open_redis(patient_redis(redis_cluster)) as client:
                clients.append(client)
                commands.append(asyncio.create_task(client.execute_command("GET", new_id())))
                for _ in range(turns):
                    await asyncio.sleep(0)
        for command in commands:
            with contextlib.suppress(CacheUnavailable), translated_errors():
                assert await command is None

        async def are_closed() -> bool:
            return await connections(watcher) == before

        await eventually(are_closed)


async def connections(watcher: RedisClient) -> int:
    """Return how many a cluster has."""
    nodes = await watcher.execute_command("CLIENT LIST", target_nodes=ClusterClient.ALL_NODES)
    return sum(len(one) for one in nodes.values())


async def test_an_absent_cluster_is_unavailable_and_opening_does_not_need_it() -> None:
    url = "redis+cluster://127.0.0.1:1,127.0.0.1:2"
    async with open_redis(RedisSettings(url=url)) as client:
        for _ in range(2):
            with pytest.raises(CacheUnavailable), translated_errors():
                await client.get("key")
            with pytest.raises(CacheUnavailable), translated_errors():
                await node_of(client, "key")


@pytest.mark.parametrize("hosts", ["", "host", "host:", "host:99999", "host:1,", ":1"])
async def test_what_names_no_node_is_refused(hosts: str) -> None:
    with pytest.raises(SettingsError, match="MESHWRIGHT_REDIS__URL"):
        await open_redis(RedisSettings(url=f"redis+cluster://{hosts}")).__aenter__()


async def test_a_wrong_password_is_the_cluster_being_away(redis_cluster: str) -> None:
    """The test cluster has no users: a login with a password is refused."""
    url = redis_cluster.replace("://", "://somebody:secret@")
    async with open_redis(RedisSettings(url=url)) as client:
        with pytest.raises(CacheUnavailable), translated_errors():
            await client.get("key")


@pytest.mark.promise("STORE-11")
async def test_a_slot_that_moves_is_followed(cluster_of_ours: RedisCluster) -> None:
    """While it moves, too; also by commands that say where they go."""
    async with open_redis(RedisSettings(url=cluster_of_ours.url)) as client:
        assert isinstance(client, ClusterClient)
        await client.ping()
        key, other, _ = keys_on_every_node(client)
        stream = key.replace("counter", "stream")
        assert await increment(client, key) == 1
        await client.xadd(stream, {"a": "1"})
        source, target = client.get_node_from_key(key), client.get_node_from_key(other)
        assert source is not None
        assert target is not None
        slot = key_slot(key.encode())
        async with (
            Redis(port=int(source.port)) as old,
            Redis(port=int(target.port)) as new,
        ):
            source_id = await execute(old, "CLUSTER", "MYID")
            target_id = await execute(new, "CLUSTER", "MYID")
            await execute(new, "CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
            await execute(old, "CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
            for moved in (key, stream):
                await old.migrate("127.0.0.1", int(target.port), moved, 0, 5000)
            assert await increment(client, key) == 2
            for owner in (new, old):
                await execute(owner, "CLUSTER", "SETSLOT", slot, "NODE", target_id)
        answer = await client.execute_command(
            "XREAD", "STREAMS", stream, "0", **await node_of(client, stream)
        )
        assert len(answer) == 1
        assert await increment(client, key) == 3


@pytest.mark.promise("STORE-11")
async def test_a_node_that_dies_is_missed_at_once_and_found_again(
    cluster_of_ours: RedisCluster,
) -> None:
    """F-12: no call waits long, and no restart of ours is needed."""
    async with (
        open_redis(RedisSettings(url=cluster_of_ours.url)) as client,
        open_redis(RedisSettings(url=cluster_of_ours.url), read_timeout_seconds=2) as reader,
    ):
        assert isinstance(client, ClusterClient)
        await client.ping()
        keys = keys_on_every_node(client)
        streams = [key.replace("counter", "stream") for key in keys]
        assert await serves(client, *keys)

        async def reads() -> bool:
            try:
                for stream in streams:
                    with translated_errors():
                        where = await node_of(reader, stream)
                        await reader.execute_command("XREAD", "STREAMS", stream, "0", **where)
            except CacheUnavailable:
                return False
            return True

        assert await reads()
        for pid in cluster_of_ours.pids[:1]:
            os.kill(pid, signal.SIGKILL)
        started = time.monotonic()
        assert not await serves(client, *keys)
        assert not await reads()
        assert time.monotonic() - started < 10
        await asyncio.to_thread(cluster_of_ours.kill)
        assert not await serves(client, *keys)
        cluster_of_ours.start()
        await eventually(lambda: serves(client, *keys))
        await eventually(reads)


async def test_a_cluster_that_answers_nothing_is_given_up_soon(
    cluster_of_ours: RedisCluster,
) -> None:
    """F-14."""
    async with open_redis(RedisSettings(url=cluster_of_ours.url)) as client:
        assert isinstance(client, ClusterClient)
        await client.ping()
        keys = keys_on_every_node(client)
        assert await serves(client, *keys)
        cluster_of_ours.pause()
        try:
            started = time.monotonic()
            assert not await serves(client, keys[0])
            assert time.monotonic() - started < 10
        finally:
            cluster_of_ours.resume()
        await eventually(lambda: serves(client, *keys))
