"""The ledger has what the provider counted, whatever became of the calls."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bench.limit_load import Callers, ledger_counts
from bench.router_replicas import running_routers
from bench.upstream_simulator import simulator
from meshwright_common.ids import new_id
from meshwright_common.settings import RedisSettings
from meshwright_common.storage.postgres import open_database
from meshwright_common.testing.engines import DatabaseSettingsFor
from meshwright_common.testing.patience import patient_environment
from meshwright_common.testing.waiting import eventually

CALLS = 500
AT_ONCE = 25


@pytest.mark.asyncio
@pytest.mark.timeout(170)
@pytest.mark.promise("BUDGET-03")
async def test_the_ledger_is_the_providers_own_count_through_aborts_retries_and_breaks(
    database_settings: DatabaseSettingsFor, redis_settings: RedisSettings, tmp_path: Path
) -> None:
    """A fifth of the callers leaves, a tenth is retried, a twentieth of the streams breaks."""
    settings = await database_settings("meshwright_model_router")
    tenant = new_id()
    async with (
        simulator() as provider,
        running_routers(
            tmp_path,
            settings,
            redis_settings,
            provider.base_url,
            count=1,
            environment=patient_environment(),
        ) as routers,
        open_database(settings, "model-router") as database,
    ):
        callers = Callers(routers.living, tenant, random.Random(11), with_faults=True)  # noqa: S311
        for _ in range(CALLS // AT_ONCE):
            await callers.call_together(AT_ONCE)

        async def all_is_recorded() -> bool:
            counts = await ledger_counts(database, tenant)
            return counts.rows == provider.counters.chat

        await eventually(all_is_recorded, timeout_seconds=20)
        counts = await ledger_counts(database, tenant)
    assert callers.outcomes["left"] > CALLS / 8
    assert callers.outcomes["PROVIDER_TRUNCATED"] > CALLS / 60
    assert provider.counters.chat > CALLS
    assert (provider.counters.prompt_tokens, provider.counters.tokens) == (
        counts.prompt_tokens,
        counts.completion_tokens,
    )
