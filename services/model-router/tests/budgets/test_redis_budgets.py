"""Budgets are held in one step, settled once, and never exceeded."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from meshwright_common.errors import QuotaExceeded
from meshwright_common.ids import new_id
from meshwright_model_router.domain.budget_rules import Limits
from meshwright_model_router.domain.budgets import Counted
from tests.budget_world import World

pytestmark = pytest.mark.asyncio


async def test_what_was_not_used_is_given_back(
    world: World, stack: AsyncExitStack, tokens_a_day: int
) -> None:
    replica = await world.replica(stack)
    reservation = await replica.reserve(world.tenant, prompt=50, output=200)
    assert [0, 250] == await world.state(replica)
    await replica.use(world.tenant, reservation, 120)
    reservation.settle(Counted(500, 500))
    await world.comes_to(replica, 120, 0)


async def test_a_released_reservation_leaves_nothing(
    world: World, stack: AsyncExitStack, tokens_a_day: int
) -> None:
    replica = await world.replica(stack)
    (await replica.reserve(world.tenant)).release()
    await world.comes_to(replica, 0, 0)
    assert [] == await world.rows()


async def test_the_rest_of_a_budget_is_given_when_it_is_enough(
    world: World, stack: AsyncExitStack, tokens_a_day: int
) -> None:
    replica = await world.replica(stack)
    first = await replica.reserve(world.tenant, output=900)
    assert 100 == (await replica.reserve(world.tenant, output=400)).output_tokens
    with pytest.raises(QuotaExceeded) as refused:
        await replica.reserve(world.tenant, output=400)
    # Running calls stand in the way, not what was used.
    assert 1.0 == refused.value.retry_after_seconds
    assert ("tokens_per_day", "tenant", "1000", "0", "1000", "0") == tuple(
        refused.value.metadata[name]
        for name in ("quota", "scope", "limit", "used", "reserved", "remaining")
    )
    await replica.use(world.tenant, first, 900)
    await world.comes_to(replica, 900, 100)


async def test_a_used_up_budget_is_refused_until_midnight(
    world: World, stack: AsyncExitStack, tokens_a_day: int
) -> None:
    replica = await world.replica(stack)
    await replica.use(world.tenant, await replica.reserve(world.tenant, output=1000), 1000)
    await world.comes_to(replica, 1000, 0)
    with pytest.raises(QuotaExceeded) as refused:
        await replica.reserve(world.tenant)
    assert refused.value.retry_after_seconds == pytest.approx(
        float(refused.value.metadata["reset_seconds"]), abs=1
    )


async def test_callers_at_once_of_several_replicas_never_get_more_than_there_is(
    world: World, stack: AsyncExitStack, tokens_a_day: int
) -> None:
    replicas = [await world.replica(stack) for _ in range(3)]

    async def granted(number: int) -> int:
        try:
            reservation = await replicas[number % 3].reserve(world.tenant, output=70)
        except QuotaExceeded:
            return 0
        return reservation.output_tokens

    sums = await asyncio.gather(*map(granted, range(60)))
    assert 1000 - 10 < sum(sums) <= 1000


async def test_features_weigh_differently_and_money_has_its_own_budget(
    world: World, stack: AsyncExitStack
) -> None:
    world.agreed.limits = Limits("starter", tenant_micro_usd=1000)
    replica = await world.replica(stack)
    await replica.reserve(world.tenant, output=100, feature="agent")
    assert [0, 150] == await world.state(replica)
    # 2 millionths a token: 200 of 1000 are held.
    assert 400 == (await replica.reserve(world.tenant, output=9000)).output_tokens
    with pytest.raises(QuotaExceeded) as refused:
        await replica.reserve(world.tenant)
    assert "cost_micro_usd_per_day" == refused.value.metadata["quota"]


async def test_a_user_has_a_budget_of_its_own(world: World, stack: AsyncExitStack) -> None:
    world.agreed.limits = Limits("starter", user_tokens=100)
    replica = await world.replica(stack)
    anna, bert = new_id(), new_id()
    await replica.reserve(world.tenant, user_id=anna)
    with pytest.raises(QuotaExceeded) as refused:
        await replica.reserve(world.tenant, user_id=anna)
    assert "user" == refused.value.metadata["scope"]
    await replica.reserve(world.tenant, user_id=bert)
    await replica.reserve(world.tenant)
    assert [0, 100] == await world.state(replica, "user", bert)
    assert [0, 300] == await world.state(replica)


async def test_without_any_limit_everything_is_counted_and_nothing_is_cut(
    world: World, stack: AsyncExitStack
) -> None:
    replica = await world.replica(stack)
    attempt = await replica.reserve(world.tenant, output=0)
    assert 0 == attempt.output_tokens
    await replica.use(world.tenant, attempt, 70)
    await world.comes_to(replica, 70, 0)


async def test_a_cancelled_caller_holds_nothing(
    world: World, stack: AsyncExitStack, tokens_a_day: int
) -> None:
    replica = await world.replica(stack)
    await replica.reserve(world.tenant, output=1)
    callers = [asyncio.create_task(replica.reserve(world.tenant)) for _ in range(20)]
    await asyncio.sleep(0)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await world.comes_to(replica, 0, 1)
