"""Exact limits and an exact ledger, at their full size: what is shown is how far they are off."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

from bench.durable_database import durable_database
from bench.limit_load import Callers, LedgerCounts, Peak, ledger_counts
from bench.measurement import Measurement
from bench.router_replicas import running_routers
from bench.targets import Target
from bench.upstream_simulator import simulator
from meshwright.session.v1 import tenant_pb2
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings, RedisSettings
from meshwright_common.storage.embedded.valkey import EmbeddedValkey
from meshwright_common.storage.postgres import open_database
from meshwright_common.storage.redis import open_redis
from meshwright_common.testing.waiting import eventually

EXACT: Final = "exact_limits"
LEDGER: Final = "ledger_exact"
ABOUT: Final = {
    EXACT: (
        "200 callers at 4 router processes against one limit of tokens: streams, callers that"
        " leave, two processes killed; overshoot, use of the limit, seconds until leases are back"
    ),
    LEDGER: (
        "10 000 calls, a fifth abandoned, a tenth retried, a twentieth broken: tokens of the ledger"
        " less those that the provider counted"
    ),
}
CALLERS: Final = 200
LIMIT: Final = 200_000
QUICK_LIMIT: Final = 20_000
CALLS: Final = 10_000
QUICK_CALLS: Final = 1_000
TOGETHER: Final = 50
LEASE_SECONDS: Final = 20.0
LONGEST_SECONDS: Final = 600.0


def measure(wanted: set[str], *, quick: bool, scratch: Path) -> list[Measurement]:
    """Run those of the figures that are wanted, once: they count, they do not time."""
    measurements: list[Measurement] = []
    valkey = EmbeddedValkey(
        scratch / "valkey", password=secrets.token_urlsafe(16), log=scratch / "valkey.log"
    )
    with durable_database(scratch) as database:
        valkey.start()
        redis = RedisSettings(url=valkey.url)
        try:
            if EXACT in wanted:
                limit = QUICK_LIMIT if quick else LIMIT
                values = asyncio.run(_exact(database, redis, limit, scratch))
                measurements.append(Measurement(EXACT, Target.ROUTERS, 0, values))
            if LEDGER in wanted:
                calls = QUICK_CALLS if quick else CALLS
                values = asyncio.run(_ledger(database, redis, calls, scratch))
                measurements.append(Measurement(LEDGER, Target.ROUTERS, 0, values))
        finally:
            valkey.stop()
    return measurements


async def _exact(
    database: DatabaseSettings, redis: RedisSettings, limit: int, scratch: Path
) -> dict[str, float]:
    tenant, folder = new_id(), scratch / EXACT
    folder.mkdir()
    environment = {
        "MESHWRIGHT_LIMITS__LEASE_SECONDS": str(LEASE_SECONDS),
        "MESHWRIGHT_LIMITS__LEAST_OUTPUT_TOKENS": "8",
    }
    async with (
        simulator() as provider,
        running_routers(
            folder, database, redis, provider.base_url, count=4, environment=environment
        ) as routers,
        open_database(database, "model-router") as opened,
        open_redis(redis) as client,
    ):
        routers.directory.limits[tenant] = tenant_pb2.Quota(max_tokens_per_day=limit)
        peak = Peak(client, tenant)
        callers = Callers(routers.living, tenant, random.Random(1))  # noqa: S311
        began = time.monotonic()
        async with peak.sampled(), callers.calling(CALLERS):
            for replica, least in zip(routers.replicas, (limit // 4, limit // 2), strict=False):
                await _until(partial(_has_used, peak, least))
                await replica.kill()
            await _until(lambda: callers.is_refused_for_today)
        spent = time.monotonic()

        async def leases_are_back() -> bool:
            await peak.look()
            return peak.reserved == 0

        await _until(leases_are_back)
        back = time.monotonic()
        counts = await ledger_counts(opened, tenant)
    counted_there = provider.counters.tokens + provider.counters.prompt_tokens
    return {
        "overshoot_tokens": max(0, peak.highest - limit),
        "provider_overshoot_tokens": max(0, counted_there - limit),
        "used_share": counts.counted / limit,
        "redis_minus_ledger_tokens": peak.used - counts.counted,
        "lost_attempts": counts.lost,
        "calls": counts.rows,
        "seconds": spent - began,
        "leases_back_seconds": back - spent,
    }


async def _ledger(
    database: DatabaseSettings, redis: RedisSettings, calls: int, scratch: Path
) -> dict[str, float]:
    tenant, folder = new_id(), scratch / LEDGER
    folder.mkdir()
    async with (
        simulator() as provider,
        running_routers(
            folder, database, redis, provider.base_url, count=2, environment={}
        ) as routers,
        open_database(database, "model-router") as opened,
    ):
        callers = Callers(routers.living, tenant, random.Random(2), with_faults=True)  # noqa: S311
        began = time.monotonic()
        for _ in range(calls // TOGETHER):
            await callers.call_together(TOGETHER)
        seconds = time.monotonic() - began
        counts: list[LedgerCounts] = []

        async def all_is_recorded() -> bool:
            counts[:] = [await ledger_counts(opened, tenant)]
            return counts[0].rows == provider.counters.chat

        await _until(all_is_recorded)
    return {
        "completion_difference_tokens": counts[0].completion_tokens - provider.counters.tokens,
        "prompt_difference_tokens": counts[0].prompt_tokens - provider.counters.prompt_tokens,
        "completion_tokens": counts[0].completion_tokens,
        "requests": provider.counters.chat,
        "left": callers.outcomes["left"],
        "broken": callers.outcomes["PROVIDER_TRUNCATED"],
        "retried": provider.counters.chat - calls,
        "calls_per_second": calls / seconds,
    }


def _has_used(peak: Peak, tokens: int) -> bool:
    return peak.used >= tokens


async def _until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    await eventually(condition, timeout_seconds=LONGEST_SECONDS)
