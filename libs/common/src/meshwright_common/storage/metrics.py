"""Metrics of the ways to PostgreSQL and Redis."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client import Counter, Gauge

from meshwright_common.telemetry import metric_names

if TYPE_CHECKING:
    from asyncpg.pool import Pool

DATABASE_CONNECTIONS: Final = Gauge(
    metric_names.DATABASE_CONNECTIONS,
    "Connections to PostgreSQL that pools hold open: used or idle.",
    ("pool", "state"),
)
DATABASE_WAITING: Final = Gauge(
    metric_names.DATABASE_WAITING, "Callers that wait for a free connection.", ("pool",)
)
DATABASE_REFUSED: Final = Counter(
    metric_names.DATABASE_REFUSED,
    "Callers that got no connection: none was free in time, or PostgreSQL was not reached.",
    ("pool",),
)
REDIS_FAILURES: Final = Counter(
    metric_names.REDIS_FAILURES, "Commands that Redis did not answer, or not in time."
)

_pools: dict[str, set[Pool]] = {}


@contextlib.contextmanager
def watched(service: str, pool: Pool) -> Iterator[None]:
    """Count the connections of a pool among those of the service inside the block."""
    pools = _pools.get(service)
    if pools is None:
        counted = pools = _pools[service] = set()
        DATABASE_WAITING.labels(service)
        DATABASE_REFUSED.labels(service)
        DATABASE_CONNECTIONS.labels(service, "idle").set_function(
            lambda: sum(one.get_idle_size() for one in tuple(counted))
        )
        DATABASE_CONNECTIONS.labels(service, "used").set_function(
            lambda: sum(one.get_size() - one.get_idle_size() for one in tuple(counted))
        )
    pools.add(pool)
    try:
        yield
    finally:
        pools.remove(pool)
