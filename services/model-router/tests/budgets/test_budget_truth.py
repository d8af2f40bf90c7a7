"""Redis may forget, die or be away: what the ledger knows is counted, and no limit is exceeded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from meshwright_common.errors import QuotaExceeded
from meshwright_common.ids import new_id
from meshwright_common.settings import RedisSettings
from meshwright_common.storage.embedded.valkey import EmbeddedValkey
from meshwright_common.storage.redis import open_redis
from meshwright_common.testing.waiting import eventually
from meshwright_model_router.adapters.redis_books import day_key
from meshwright_model_router.domain.budget_rules import Limits
from meshwright_model_router.domain.budgets import Counted, Reservation
from meshwright_model_router.domain.errors import LimitsUnavailable
from tests.budget_world import Replica, World

pytestmark = pytest.mark.asyncio


class Kept:
    """Runs the background work of replicas until the test is over."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def keep(self, replica: Replica) -> None:
        """Run a replica's work. One that is not kept is as one whose process died."""
        self._tasks.append(asyncio.create_task(replica.budgeting.keeping.run()))

    async def end(self) -> None:
        """Stop all of it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest_asyncio.fixture
async def kept(stack: AsyncExitStack) -> AsyncIterator[Kept]:
    """Where replicas are kept."""
    running = Kept()
    yield running
    await running.end()


async def test_what_redis_lost_is_counted_from_the_ledger_and_from_what_runs(
    world: World, stack: AsyncExitStack, kept: Kept, tokens_a_day: int
) -> None:
    """R-19: never admits with empty counters, whoever runs a call."""
    first, second = [await world.replica(stack) for _ in range(2)]
    for replica in (first, second):
        kept.keep(replica)
    await first.use(world.tenant, await first.reserve(world.tenant, output=300), 300)
    running = await second.reserve(world.tenant, output=600)
    await world.redis.flushall()
    assert 100 == (await first.reserve(world.tenant, output=900)).output_tokens
    with pytest.raises(QuotaExceeded):
        await first.reserve(world.tenant)
    await second.use(world.tenant, running, 50)
    await world.comes_to(first, 350, 100)


async def test_an_attempt_whose_process_died_is_recorded_once_and_settled(
    world: World, stack: AsyncExitStack, kept: Kept, tokens_a_day: int
) -> None:
    """CP-12, CP-13: one row, outcome lost, counted with what was held and charged to nobody."""
    dead = await world.replica(stack)
    user = new_id()
    await dead.reserve(world.tenant, prompt=40, output=200, user_id=user)
    for _ in range(3):
        kept.keep(await world.replica(stack))
    living = await world.replica(stack)
    await world.comes_to(living, 240, 0)
    (row,) = await world.rows()
    assert ("lost", 0, 240, 40, 200, True, user) == tuple(
        row[name]
        for name in (
            *("outcome", "cost_micro_usd", "counted_tokens", "prompt_tokens"),
            *("completion_tokens", "estimated", "user_id"),
        )
    )


async def test_an_attempt_that_was_recorded_before_its_process_died_is_settled_by_its_row(
    world: World, stack: AsyncExitStack, kept: Kept, tokens_a_day: int
) -> None:
    """CP-14: the row is there, the settling never came."""
    dead = await world.replica(stack)
    reservation = await dead.reserve(world.tenant, output=200)
    await dead.use(world.tenant, _Unsettled(reservation), 30)
    kept.keep(await world.replica(stack))
    living = await world.replica(stack)
    await world.comes_to(living, 30, 0)
    assert ["completed"] == [row["outcome"] for row in await world.rows()]


class _Unsettled:
    """A reservation of a process that dies before it settles."""

    def __init__(self, reservation: Reservation) -> None:
        self.hold = reservation.hold
        self.output_tokens = reservation.output_tokens

    def settle(self, counted: Counted) -> None:
        """Do nothing: the process is dead."""

    def release(self) -> None:
        """Do nothing: the process is dead."""


async def test_redis_that_differs_from_the_ledger_is_corrected(
    world: World, stack: AsyncExitStack, tokens_a_day: int
) -> None:
    """A server that came back with older data, while a call runs."""
    replica = await world.replica(stack)
    await replica.use(world.tenant, await replica.reserve(world.tenant), 90)
    await replica.reserve(world.tenant, output=200)
    await world.comes_to(replica, 90, 200)
    day = datetime.now(UTC).date()
    await world.redis.execute_command("HSET", day_key(world.tenant, day), "tu", 40)
    await replica.budgeting.keeping.compare([world.tenant], day)
    await world.comes_to(replica, 90, 200)


@pytest_asyncio.fixture
async def own_redis(world: World, tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    """A server of the test's own in the place of the shared one."""
    engine = EmbeddedValkey(tmp_path / "data", password="pw", log=tmp_path / "log")
    engine.start()
    world.redis_settings = RedisSettings(url=engine.url)
    async with open_redis(world.redis_settings) as client:
        world.redis = client
        yield engine
    engine.stop()


async def test_without_redis_replicas_share_what_is_left_and_never_more(
    world: World,
    own_redis: EmbeddedValkey,
    stack: AsyncExitStack,
    kept: Kept,
    tokens_a_day: int,
) -> None:
    """R-20: total granted stays within the limit, before, without and after Redis."""
    replicas = [await world.replica(stack, replicas=2) for _ in range(2)]
    for replica in replicas:
        kept.keep(replica)
    await replicas[0].use(world.tenant, await replicas[0].reserve(world.tenant), 100)
    running = await replicas[1].reserve(world.tenant, output=200)
    granted = 300
    own_redis.stop()
    for _ in range(30):
        for replica in replicas:
            try:
                reservation = await replica.reserve(world.tenant, output=50)
            except QuotaExceeded:
                continue
            granted += reservation.output_tokens
            await replica.use(world.tenant, reservation, reservation.output_tokens)
    assert 900 <= granted <= 1000
    own_redis.start()
    await eventually(lambda: not any(one.budgeting.budgets.is_away for one in replicas))
    await replicas[1].use(world.tenant, running, 150)
    used = sum(row["counted_tokens"] for row in await world.rows())  # type: ignore[misc]
    assert granted - 50 == used
    await replicas[0].reserve(world.tenant, output=10)
    await world.comes_to(replicas[0], used, 10)


async def test_without_redis_nothing_is_given_out_where_that_is_the_policy(
    world: World, own_redis: EmbeddedValkey, stack: AsyncExitStack
) -> None:
    world.agreed.limits = Limits("starter", tenant_tokens=1000)
    replica = await world.replica(stack, when_away="refuse")
    await replica.reserve(world.tenant)
    own_redis.stop()
    with pytest.raises(LimitsUnavailable) as refused:
        await replica.reserve(world.tenant)
    assert refused.value.retry_after_seconds
    own_redis.start()
