"""R-14: whoever leaves a call, at whatever moment, leaves nothing held."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from meshwright.session.v1 import tenant_pb2
from meshwright_common.errors import ServiceError
from meshwright_common.settings import RedisSettings
from meshwright_common.storage.redis import open_redis, tenant_key
from meshwright_common.testing.waiting import eventually

if TYPE_CHECKING:
    from tests.conftest import Router


@pytest.mark.asyncio
@pytest.mark.timeout(170)
@pytest.mark.parametrize("substrate", ["local", "local-copy", "link"])
async def test_callers_that_leave_at_any_moment_leave_nothing_held(
    router: Router, redis_settings: RedisSettings
) -> None:
    router.directory.limits[router.tenant] = tenant_pb2.Quota(max_tokens_per_day=1_000_000)
    dice = random.Random(3)  # noqa: S311

    async def leave(model: str, after_seconds: float) -> None:
        call = asyncio.create_task(router.generate(router.question("hello", model)))
        await asyncio.wait([call], timeout=after_seconds)
        call.cancel()
        with suppress(ServiceError, asyncio.CancelledError):
            await call

    models = ("sim-n20-stall3", "sim-n20-tps100", "sim-n2", "sim-hang", "sim-n9-err503-fails1")
    for _ in range(4):
        await asyncio.gather(
            *(leave(dice.choice(models), dice.random() ** 3 * 0.3) for _ in range(60))
        )
    async with open_redis(redis_settings) as redis:
        leases = tenant_key(router.tenant, "budget", "leases")

        async def nothing_is_held() -> bool:
            return int(await redis.execute_command("ZCARD", leases)) == 0

        # A busy machine takes seconds to clear up; what is held by mistake stays for 30 s.
        await eventually(nothing_is_held, timeout_seconds=20)
