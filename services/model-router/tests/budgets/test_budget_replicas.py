"""Who may grant: nobody goes on without a replica that lives, however late it is."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest

from meshwright_common.clock import SystemClock
from meshwright_common.ids import new_id
from meshwright_common.storage.redis import tenant_key
from meshwright_common.testing.waiting import eventually
from meshwright_model_router.adapters.budget_replicas import Replicas
from meshwright_model_router.adapters.budget_truth import TENANT, BudgetTruth, Claim
from meshwright_model_router.adapters.redis_books import FAMILY, PLATFORM
from meshwright_model_router.domain.budgets import NOTHING, Counted
from tests.budget_world import World

pytestmark = pytest.mark.asyncio


async def test_a_lost_day_is_not_given_out_before_a_late_replica_told_what_it_holds(
    world: World, stack: AsyncExitStack, tokens_a_day: int
) -> None:
    """R-19, R-20: it is late for longer than any heartbeat, and lives."""
    prompt, late = [await world.replica(stack, lease_seconds=30.0) for _ in range(2)]
    running = await late.reserve(world.tenant, output=600)
    await prompt.reserve(world.tenant, output=100)
    await world.redis.flushall()
    waiting = asyncio.create_task(prompt.reserve(world.tenant, output=900))
    asked = tenant_key(PLATFORM, FAMILY, "asked")
    await eventually(lambda: world.redis.execute_command("EXISTS", asked))
    assert not waiting.done()
    await late.budgeting.keeping.tell()
    assert 300 == (await waiting).output_tokens
    running.release()
    await world.comes_to(prompt, 0, 400)


async def test_a_lone_replica_counts_a_lost_day_at_once(
    world: World, stack: AsyncExitStack, tokens_a_day: int
) -> None:
    replica = await world.replica(stack, lease_seconds=30.0)
    for number in range(1, 6):
        await replica.reserve(world.tenant, output=100)
        await world.redis.flushall()
        await replica.reserve(world.tenant, output=10)
        assert [0, number * 110] == await world.state(replica)


async def test_no_part_is_taken_while_a_replica_that_lives_uses_redis(
    world: World, stack: AsyncExitStack
) -> None:
    mine, other = new_id(), Replicas(world.database, new_id(), SystemClock(), 30.0)
    truth, day = BudgetTruth(world.database, mine), datetime.now(UTC).date()
    claim = Claim(TENANT, "", 1000, 0, NOTHING, Counted(10, 0), NOTHING)
    assert not other.is_valid
    await other.tell()
    assert other.is_valid
    assert await truth.claim(world.tenant, day, claim, 2, 30.0) is None
    await other.tell(is_away=True)
    assert Counted(500, 0) == await truth.claim(world.tenant, day, claim, 2, 30.0)
    await other.tell(is_away=False)
    assert await truth.has_shares(world.tenant, day, 30.0)
    await other.leave()
    assert not other.is_valid
