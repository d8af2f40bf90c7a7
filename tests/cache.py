"""The Redis of a running platform, reached past all its services."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Final, TypeAlias
from urllib.parse import quote, urlsplit

import psutil
import redis
from redis.cluster import RedisCluster

from bench.process_usage import tree
from tests.platform_process import Platform

Server: TypeAlias = "redis.Redis | RedisCluster"
_CLUSTER: Final = "redis+cluster"


def redis_url(platform: Platform) -> str:
    """Return the address of the Redis that the platform uses, its own or the one it was given."""
    if url := platform.environment.get("MESHWRIGHT_REDIS__URL"):
        return url
    password = quote(json.loads((platform.data / "secrets.json").read_text())["redis"], safe="")
    socket = platform.data / "valkey" / "valkey.sock"
    if socket.exists():
        return f"unix://:{password}@{quote(str(socket.resolve()))}?db=0"
    for one in tree(platform.process.pid):
        process = psutil.Process(one.pid)
        if process.name() == "valkey-server":
            port = next(c.laddr.port for c in process.net_connections() if c.status == "LISTEN")
            return f"redis://:{password}@127.0.0.1:{port}/0"
    raise AssertionError("the platform has no Redis")


@contextlib.contextmanager
def open_cache(platform: Platform) -> Iterator[Server]:
    """Open a client of the platform's Redis."""
    url = redis_url(platform)
    parts = urlsplit(url)
    if parts.scheme == _CLUSTER:
        host, port = _address(parts.netloc.split(",")[0])
        client: Server = RedisCluster(host=host, port=port)
    else:
        client = redis.Redis.from_url(url)
    try:
        yield client
    finally:
        client.close()


def empty(platform: Platform, tenant_id: str) -> int:
    """Delete everything of a Redis that is the platform's own, and a tenant's keys of a shared one.

    Return how many keys there were.
    """
    with open_cache(platform) as client:
        if not platform.environment.get("MESHWRIGHT_REDIS__URL"):
            count = int(client.dbsize())
            client.flushall()
            return count
        keys = list(client.scan_iter(match=f"mw:{{{tenant_id}}}:*", count=1000))
        return sum(int(client.delete(key)) for key in keys)


def _address(node: str) -> tuple[str, int]:
    host, _, port = node.rpartition(":")
    return host, int(port)
