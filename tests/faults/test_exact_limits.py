"""Limits hold whatever callers and processes do at the same time."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bench.limit_load import Callers, Peak, ledger_counts
from bench.router_replicas import running_routers
from bench.upstream_simulator import simulator
from meshwright.session.v1 import tenant_pb2
from meshwright_common.ids import new_id
from meshwright_common.settings import RedisSettings
from meshwright_common.storage.embedded.valkey import EmbeddedValkey
from meshwright_common.storage.postgres import open_database
from meshwright_common.storage.redis import open_redis
from meshwright_common.testing.engines import DatabaseSettingsFor
from meshwright_common.testing.patience import patient_environment, patient_redis
from meshwright_common.testing.waiting import eventually

LIMIT = 12_000
LEASE_SECONDS = 2.0


@pytest.mark.asyncio
@pytest.mark.timeout(170)
@pytest.mark.promise("BUDGET-01")
@pytest.mark.promise("BUDGET-02")
async def test_200_callers_at_four_replicas_never_use_more_than_the_limit_and_nearly_all_of_it(
    database_settings: DatabaseSettingsFor, redis_settings: RedisSettings, tmp_path: Path
) -> None:
    """Streams, cancels and SIGKILL mixed in; leases come back, and Redis is as the ledger."""
    settings = await database_settings("meshwright_model_router")
    environment = patient_environment() | {
        "MESHWRIGHT_LIMITS__LEASE_SECONDS": str(LEASE_SECONDS),
        "MESHWRIGHT_LIMITS__LEAST_OUTPUT_TOKENS": "8",
    }
    tenant = new_id()
    async with (
        simulator() as provider,
        running_routers(
            tmp_path, settings, redis_settings, provider.base_url, count=4, environment=environment
        ) as routers,
        open_database(settings, "model-router") as database,
        open_redis(redis_settings) as redis,
    ):
        routers.directory.limits[tenant] = tenant_pb2.Quota(max_tokens_per_day=LIMIT)
        peak = Peak(redis, tenant)
        callers = Callers(routers.living, tenant, random.Random(5))  # noqa: S311
        async with peak.sampled(), callers.calling(200):
            await eventually(lambda: peak.used > LIMIT / 4, timeout_seconds=30)
            await routers.replicas[0].kill()
            await eventually(lambda: peak.used > LIMIT / 2, timeout_seconds=30)
            await routers.replicas[1].kill()
            await eventually(lambda: callers.is_refused_for_today, timeout_seconds=40)

        async def leases_are_back() -> bool:
            await peak.look()
            return peak.reserved == 0

        await eventually(leases_are_back, timeout_seconds=3 * LEASE_SECONDS)
        counts = await ledger_counts(database, tenant)
    assert peak.highest <= LIMIT
    assert provider.counters.tokens + provider.counters.prompt_tokens <= LIMIT
    assert counts.counted == peak.used
    assert counts.counted >= 0.95 * LIMIT
    assert counts.lost > 0


@pytest.mark.asyncio
@pytest.mark.timeout(170)
@pytest.mark.promise("BUDGET-04")
async def test_with_redis_killed_under_load_and_back_empty_no_more_than_the_limit_is_used(
    database_settings: DatabaseSettingsFor, tmp_path: Path
) -> None:
    """R-20: by the provider's own count; Redis is as the ledger at the end."""
    settings = await database_settings("meshwright_model_router")
    engine = EmbeddedValkey(tmp_path / "valkey", password=new_id(), log=tmp_path / "valkey.log")
    engine.start()
    tenant = new_id()
    environment = patient_environment() | {
        "MESHWRIGHT_LIMITS__LEASE_SECONDS": str(2 * LEASE_SECONDS),
        "MESHWRIGHT_LIMITS__LEAST_OUTPUT_TOKENS": "8",
    }
    try:
        redis_settings = patient_redis(engine.url)
        async with (
            simulator() as provider,
            running_routers(
                tmp_path, settings, redis_settings, provider.base_url, count=2,
                environment=environment,
            ) as routers,
            open_database(settings, "model-router") as database,
        ):  # fmt: skip
            routers.directory.limits[tenant] = tenant_pb2.Quota(max_tokens_per_day=LIMIT)
            callers = Callers(routers.living, tenant, random.Random(7))  # noqa: S311

            async def used(share: float) -> bool:
                return (await ledger_counts(database, tenant)).counted >= share * LIMIT

            async with callers.calling(60):
                await eventually(lambda: used(0.2), timeout_seconds=30)
                engine.stop()
                await eventually(lambda: used(0.5), timeout_seconds=30)
                (tmp_path / "valkey" / "appendonly.aof").unlink(missing_ok=True)
                engine.start()
                async with open_redis(redis_settings) as redis:
                    await redis.flushall()
                    await eventually(lambda: callers.is_refused_for_today, timeout_seconds=40)
            async with open_redis(redis_settings) as redis:
                peak = Peak(redis, tenant)

                async def leases_are_back() -> bool:
                    await peak.look()
                    return peak.reserved == 0

                await eventually(leases_are_back, timeout_seconds=6 * LEASE_SECONDS)
            counts = await ledger_counts(database, tenant)
    finally:
        engine.stop()
    assert provider.counters.tokens + provider.counters.prompt_tokens <= LIMIT
    assert 0.95 * LIMIT <= counts.counted == peak.used <= LIMIT
