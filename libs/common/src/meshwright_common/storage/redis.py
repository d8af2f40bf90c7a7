"""The one way to Redis or Valkey: clients with time limits, and keys that name their tenant.

Values are bytes in both directions. Nothing here is the only copy of anything. One server and a
cluster are used alike, with three rules: a command is about keys of one tenant; a script is called
by `execute_command("EVALSHA", …)`; a command whose keys have no fixed place (XREAD, XREADGROUP)
says where it goes, by `node_of`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, TypeAlias
from urllib.parse import unquote, urlsplit

import redis.asyncio
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    BusyLoadingError,
    ClusterError,
    ConnectionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    TimeoutError,
    TryAgainError,
)

from meshwright_common.errors import Unavailable
from meshwright_common.ids import parse_id
from meshwright_common.settings import RedisSettings, SettingsError
from meshwright_common.storage import metrics
from meshwright_common.storage.redis_connections import closing

RedisClient: TypeAlias = redis.asyncio.Redis | RedisCluster
"""A client of one server or of a cluster."""

HEALTH_CHECK_SECONDS: Final = 15
MAX_CONNECTIONS: Final = 50
"""To one server; of a cluster, to each."""
SCANNED_AT_ONCE: Final = 1000
"""Keys that a server looks at before it serves somebody else."""
RETRIES: Final = 1
"""redis-py 8 repeats ten times unless told: a paused server would hold a call for 15 s."""

CLIENT_NAME: Final = "meshwright"
_CLUSTER_SCHEMES: Final = ("redis+cluster://", "rediss+cluster://")
_AWAY: Final = (
    ConnectionError,
    TimeoutError,
    BusyLoadingError,
    OutOfMemoryError,
    # A cluster without a node for the key, one that is about to change, or none at all.
    ClusterError,
    RedisClusterException,
    ReadOnlyError,
    TryAgainError,
)
_PART: Final = re.compile(r"[A-Za-z0-9._@-]{1,200}")


class CacheUnavailable(Unavailable):
    """Redis is away, loading or full. Callers fall back as their service's README says."""


@contextlib.asynccontextmanager
async def open_redis(
    settings: RedisSettings,
    *,
    read_timeout_seconds: float | None = None,
    one_at_a_time: bool = False,
) -> AsyncIterator[RedisClient]:
    """Open a client; it connects when first used, and after the block no more.

    With `one_at_a_time` a server gets one connection, whose commands wait for each other: whoever
    makes no two at a time saves the pool, which costs as much as the command.

    A command that blocks (XREAD BLOCK, BLPOP) must block for less than `read_timeout_seconds`:
    such readers open a client of their own with a longer one. Raises: SettingsError.
    """
    read_seconds = read_timeout_seconds or settings.timeout_seconds
    if settings.url.startswith(_CLUSTER_SCHEMES):
        cluster = _cluster(settings, read_seconds)
        async with closing(cluster):
            yield cluster
        return
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        settings.url,
        max_connections=MAX_CONNECTIONS,
        timeout=settings.timeout_seconds,
        socket_connect_timeout=settings.timeout_seconds,
        socket_timeout=read_seconds,
        health_check_interval=HEALTH_CHECK_SECONDS,
        retry=_retry(),
        client_name=CLIENT_NAME,
    )
    client = redis.asyncio.Redis.from_pool(pool)
    client.single_connection_client = one_at_a_time
    async with closing(client):
        yield client


async def node_of(client: RedisClient, key: str) -> dict[str, ClusterNode]:
    """Return the argument of `execute_command` that sends a command to the node of `key`.

    Without it, redis-py asks some node where the keys of such a command are; when that one is
    gone, it never asks another.
    """
    if not isinstance(client, RedisCluster):
        return {}
    _ = await client.initialize()
    node = client.get_node_from_key(key)
    return {} if node is None else {"target_nodes": node}


def _cluster(settings: RedisSettings, read_timeout_seconds: float) -> RedisCluster:
    """Return the client of `redis+cluster://[user:password@]host:port,host:port`."""
    parts = urlsplit(settings.url)
    login, _, hosts = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    return RedisCluster(
        startup_nodes=[ClusterNode(*_address(one)) for one in hosts.split(",")],
        # The addresses of the settings are asked again and again: those that a cluster tells may
        # all have changed when it comes back.
        dynamic_startup_nodes=False,
        username=unquote(username) or None,
        password=unquote(password) or None,
        ssl=parts.scheme == "rediss+cluster",
        max_connections=MAX_CONNECTIONS,
        socket_connect_timeout=settings.timeout_seconds,
        socket_timeout=read_timeout_seconds,
        health_check_interval=HEALTH_CHECK_SECONDS,
        retry=_retry(),
        client_name=CLIENT_NAME,
    )


def _address(node: str) -> tuple[str, int]:
    host, _, port = node.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise SettingsError("MESHWRIGHT_REDIS__URL: must be redis+cluster://host:port,host:port")
    return host.strip("[]"), int(port)


def _retry() -> Retry:
    return Retry(ExponentialWithJitterBackoff(base=0.01, cap=0.1), RETRIES)


def tenant_key(tenant_id: str, family: str, *parts: str) -> str:
    """Return the key `mw:{tenant}:family:part:…`; all keys of a tenant hash to one cluster slot.

    Parts are letters, digits and `._@-`. Raises: ValueError for anything else, so that no part can
    reach into another family; InvalidArgument when `tenant_id` is not a UUID.
    """
    for part in (family, *parts):
        if not _PART.fullmatch(part):
            raise ValueError(f"not a key part: {part!r}")
    tenant = parse_id(tenant_id, "tenant_id")
    return ":".join((f"mw:{{{tenant}}}", family, *parts))


async def keys_below(client: RedisClient, prefix: str) -> AsyncIterator[str]:
    """Yield the keys `prefix:…` of one tenant, some perhaps twice, in no order.

    Goes through the keys of a whole server: for rare work. One that is written meanwhile may be
    missed. `prefix` is made by `tenant_key`. Raises: the driver's errors, see `translated_errors`.
    """
    # A tenant's keys have one slot, so one node has them all.
    where = await node_of(client, prefix)
    cursor = 0
    while True:
        answer = await client.execute_command(
            *("SCAN", cursor, "MATCH", f"{prefix}:*", "COUNT", SCANNED_AT_ONCE), **where
        )
        following, keys = _scanned(answer)
        for key in keys:
            yield key.decode()
        cursor = following
        if cursor == 0:
            return


def _scanned(answer: Any) -> tuple[int, list[bytes]]:
    """Return cursor and keys; of a cluster's client, which answers by node, those of the one."""
    following, keys = answer
    if isinstance(following, dict):
        (following,) = following.values()
    return int(following), list(keys)


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Turn a lost, loading or full server or cluster into CacheUnavailable; others pass."""
    try:
        yield
    except _AWAY as error:
        metrics.REDIS_FAILURES.inc()
        raise CacheUnavailable("The cache cannot serve this now.", cause=str(error)) from error
