"""The one way to Redis or Valkey: clients with time limits, and keys that name their tenant.

Values are bytes in both directions. Nothing here is the only copy of anything.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from typing import Final

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, OutOfMemoryError, TimeoutError

from meshwright_common.errors import Unavailable
from meshwright_common.ids import parse_id
from meshwright_common.settings import RedisSettings

CONNECT_TIMEOUT_SECONDS: Final = 0.5
READ_TIMEOUT_SECONDS: Final = 0.5
HEALTH_CHECK_SECONDS: Final = 15
MAX_CONNECTIONS: Final = 50
RETRIES: Final = 1
"""redis-py 8 repeats ten times unless told: a paused server would hold a call for 15 s."""

_PART: Final = re.compile(r"[A-Za-z0-9._@-]{1,200}")


class CacheUnavailable(Unavailable):
    """Redis is away, loading or full. Callers fall back as their service's README says."""


@contextlib.asynccontextmanager
async def open_redis(
    settings: RedisSettings, *, read_timeout_seconds: float = READ_TIMEOUT_SECONDS
) -> AsyncIterator[redis.asyncio.Redis]:
    """Open a client; it connects when first used.

    A command that blocks (XREAD BLOCK, BLPOP) must block for less than `read_timeout_seconds`:
    such readers open a client of their own with a longer one.
    """
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        settings.url,
        max_connections=MAX_CONNECTIONS,
        timeout=CONNECT_TIMEOUT_SECONDS,
        socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
        socket_timeout=read_timeout_seconds,
        health_check_interval=HEALTH_CHECK_SECONDS,
        retry=Retry(ExponentialWithJitterBackoff(base=0.01, cap=0.1), RETRIES),
        client_name="meshwright",
    )
    async with redis.asyncio.Redis.from_pool(pool) as client:
        yield client


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


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Turn a lost, loading or full server into CacheUnavailable; other errors pass unchanged."""
    try:
        yield
    except (ConnectionError, TimeoutError, BusyLoadingError, OutOfMemoryError) as error:
        raise CacheUnavailable("The cache cannot serve this now.", cause=str(error)) from error
