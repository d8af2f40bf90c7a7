"""A deployment is asked for no more than it can carry, by all replicas together."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from meshwright_common.errors import QuotaExceeded
from meshwright_common.testing.waiting import eventually
from meshwright_model_router.domain.budgets import NOTHING, Estimate, Reservation
from meshwright_model_router.domain.errors import DeploymentLimited
from meshwright_model_router.domain.routing import DeploymentLimits
from tests.budget_world import Replica, World, attempt_of

pytestmark = pytest.mark.asyncio


async def ask(
    replica: Replica, world: World, limits: DeploymentLimits, output: int = 10
) -> Reservation | None:
    """Return a reservation at a deployment with these limits; None when it is full."""
    attempt = attempt_of(world.tenant)
    limited = replace(attempt, deployment=replace(attempt.deployment, limits=limits))
    try:
        return await replica.budgeting.budgets.reserve(limited, Estimate(0, output))
    except DeploymentLimited:
        return None


@pytest.mark.promise("BUDGET-06")
@pytest.mark.parametrize(
    ("limits", "allowed"),
    [
        (DeploymentLimits(requests_per_minute=7), 7),
        (DeploymentLimits(tokens_per_minute=55), 5),
        (DeploymentLimits(concurrent_requests=3), 3),
        (DeploymentLimits(requests_per_minute=9, concurrent_requests=4), 4),
    ],
)
async def test_replicas_together_begin_no_more_than_the_limit(
    world: World, stack: AsyncExitStack, limits: DeploymentLimits, allowed: int
) -> None:
    replicas = [await world.replica(stack) for _ in range(2)]
    asked = [ask(replicas[number % 2], world, limits) for number in range(20)]
    assert allowed == sum(one is not None for one in await asyncio.gather(*asked))


async def test_a_call_that_ended_makes_room_for_another_one(
    world: World, stack: AsyncExitStack
) -> None:
    replica = await world.replica(stack)
    limits = DeploymentLimits(concurrent_requests=1, tokens_per_minute=100)
    first = await ask(replica, world, limits, output=60)
    assert first is not None
    assert await ask(replica, world, limits) is None
    first.settle(NOTHING)

    async def there_is_room() -> bool:
        following = await ask(replica, world, limits, output=60)
        return following is not None

    await eventually(there_is_room)


async def test_a_budget_that_is_full_gives_the_place_back(
    world: World, stack: AsyncExitStack, tokens_a_day: int
) -> None:
    replica = await world.replica(stack)
    all_of_it = await ask(replica, world, DeploymentLimits(), output=tokens_a_day)
    assert all_of_it is not None
    limits = DeploymentLimits(requests_per_minute=100, concurrent_requests=1)
    with pytest.raises(QuotaExceeded):
        await ask(replica, world, limits)
    all_of_it.settle(NOTHING)

    async def there_is_room() -> bool:
        return await ask(replica, world, limits) is not None

    await eventually(there_is_room)
