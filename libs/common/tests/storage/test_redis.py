"""The Redis client's limits, and keys that name their tenant (D7)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest
from redis.asyncio import Redis

from meshwright_common.errors import InvalidArgument
from meshwright_common.ids import new_id
from meshwright_common.settings import RedisSettings
from meshwright_common.storage.redis import (
    CacheUnavailable,
    RedisClient,
    open_redis,
    tenant_key,
    translated_errors,
)
from meshwright_common.testing.patience import prompt
from meshwright_common.testing.waiting import eventually


@pytest.mark.asyncio
async def test_the_effective_limits_are_those_of_the_design(redis_settings: RedisSettings) -> None:
    async with open_redis(prompt(redis_settings)) as client:
        assert isinstance(client, Redis)
        await client.ping()
        arguments = client.connection_pool.connection_kwargs
        assert arguments["socket_timeout"] == 0.5
        assert arguments["socket_connect_timeout"] == 0.5
        assert arguments["health_check_interval"] == 15
        assert arguments["retry"].get_retries() == 1
        assert client.connection_pool.max_connections == 50


@pytest.mark.asyncio
async def test_a_server_that_answers_nothing_is_given_up_soon() -> None:
    """F-14: redis-py by itself would try eleven times."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        started = time.monotonic()
        async with open_redis(RedisSettings(url=url)) as client:
            with pytest.raises(CacheUnavailable), translated_errors():
                await client.get("key")
        assert time.monotonic() - started < 5.5


@pytest.mark.asyncio
async def test_an_absent_server_is_unavailable_and_opening_does_not_need_it() -> None:
    async with open_redis(RedisSettings(url="redis://127.0.0.1:1/0")) as client:
        with pytest.raises(CacheUnavailable), translated_errors():
            await client.ping()


@pytest.mark.asyncio
async def test_no_cancellation_is_lost_at_whatever_moment_it_comes(
    redis_settings: RedisSettings,
) -> None:
    """redis-py by itself loses one that comes as a command has been written."""
    async with open_redis(redis_settings) as client:
        await client.ping()
        for turns in range(20):
            command = asyncio.create_task(client.execute_command("PING"))
            for _ in range(turns):
                await asyncio.sleep(0)
            if command.cancel():
                await asyncio.wait([command])
                assert command.cancelled(), f"after {turns} turns of the loop"
            assert await client.ping()


@pytest.mark.asyncio
async def test_no_connection_outlives_its_client(redis_settings: RedisSettings) -> None:
    """redis-py by itself leaves open what a command opens while its client is being closed."""
    async with open_redis(redis_settings) as watcher:
        clients, commands = [], []
        for turns in range(20):
            async with open_redis(redis_settings) as client:
                clients.append(client)
                commands.append(asyncio.create_task(client.execute_command("PING")))
                for _ in range(turns):
                    await asyncio.sleep(0)
        for command in commands:
            with contextlib.suppress(CacheUnavailable), translated_errors():
                assert await command
        with pytest.raises(CacheUnavailable), translated_errors():
            await clients[0].ping()
        await eventually(lambda: is_alone(watcher))


@pytest.mark.asyncio
async def test_leaving_while_a_client_is_being_closed_leaves_no_connection(
    redis_settings: RedisSettings,
) -> None:
    async with open_redis(redis_settings) as watcher:
        clients = []

        async def use(used: asyncio.Event) -> None:
            async with open_redis(redis_settings) as client:
                clients.append(client)
                await asyncio.gather(client.ping(), client.ping())
                used.set()

        for turns in range(6):
            used = asyncio.Event()
            user = asyncio.create_task(use(used))
            await used.wait()
            for _ in range(turns):
                await asyncio.sleep(0)
            user.cancel()
            await asyncio.wait([user])
        await eventually(lambda: is_alone(watcher))


async def is_alone(watcher: RedisClient) -> bool:
    return len(await watcher.client_list()) == 1


@pytest.mark.asyncio
async def test_a_client_for_one_command_at_a_time_keeps_to_one_connection(
    redis_settings: RedisSettings,
) -> None:
    async with (
        open_redis(redis_settings) as watcher,
        open_redis(redis_settings, one_at_a_time=True) as client,
    ):
        assert all(await asyncio.gather(*(client.ping() for _ in range(10))))
        assert len(await watcher.client_list()) == 2

        await watcher.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert await client.ping()


@pytest.mark.asyncio
async def test_a_full_server_refuses_writes_and_keeps_what_it_has(
    redis_settings: RedisSettings,
) -> None:
    """F-16."""
    async with open_redis(redis_settings) as client:
        await client.set("kept", "value")
        limit = (await client.config_get("maxmemory"))["maxmemory"] or "0"
        try:
            await client.config_set("maxmemory", "1mb")
            with pytest.raises(CacheUnavailable), translated_errors():
                await fill(client)
            assert await client.get("kept") == b"value"
        finally:
            await client.config_set("maxmemory", limit)


async def fill(client: RedisClient) -> None:
    for number in range(100):
        await client.set(f"key {number}", "x" * 100_000)


def test_keys_of_a_tenant_share_a_slot_and_a_prefix() -> None:
    tenant = new_id()
    assert tenant_key(tenant, "turn", "a-1", "events") == f"mw:{{{tenant}}}:turn:a-1:events"


@pytest.mark.parametrize("part", ["", "a:b", "a*", "{x}", "a b", "ü", "x" * 201, "a\n"])
def test_a_part_cannot_reach_into_another_family(part: str) -> None:
    with pytest.raises(ValueError, match="not a key part"):
        tenant_key(new_id(), "turn", part)


def test_a_key_needs_a_tenant() -> None:
    with pytest.raises(InvalidArgument):
        tenant_key("", "turn")
