"""Replicas know each other's breakers and numbers, over a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio

from meshwright_common.clock import SystemClock
from meshwright_common.settings import RedisSettings
from meshwright_common.storage.redis import RedisClient, open_redis
from meshwright_common.testing.waiting import eventually
from meshwright_model_router.adapters.redis_health import RedisHealth
from meshwright_model_router.domain.catalogue import Deployment, Route
from meshwright_model_router.domain.errors import ProviderRateLimit, ProviderUnavailable
from meshwright_model_router.domain.health import Change, Health
from meshwright_model_router.domain.health_sharing import Decision, Exchanged, HealthSharing
from meshwright_model_router.domain.health_values import ModelKey, Numbers
from meshwright_model_router.domain.model_health import ModelHealth
from meshwright_model_router.domain.routing import CoolDown

pytestmark = pytest.mark.asyncio

SHORT = CoolDown(seconds=0.2)
ROUTE = Route(Deployment("one", "m", "openai"), None, "m", SHORT)
OTHER = Route(Deployment("two", "m", "openai", tenant_id="t"), None, "m", SHORT)


@dataclass
class Replica:
    """A process's health, and its part of the sharing."""

    health: Health
    sharing: HealthSharing
    changes: list[Change]

    def at(self, route: Route[None] = ROUTE) -> ModelHealth:
        return self.health.of(route)

    def is_free(self, route: Route[None] = ROUTE) -> bool:
        now = self.health.clock.monotonic()
        until = self.at(route).rests_until(now)
        if until is not None and until <= now:
            self.at(route).want()
        return until is None

    def fail(self, times: int = 3) -> None:
        for _ in range(times):
            now = self.health.clock.monotonic()
            trial = self.at().begin(now)
            self.at().failed(now, ProviderUnavailable(), trial=trial, counts=True)

    def succeed(self) -> None:
        now = self.health.clock.monotonic()
        trial = self.at().begin(now)
        self.at().spoke(now, 0.1, trial=trial)
        self.at().succeeded(now, 0.1, trial=False)


async def told(replicas: list[Replica], kind: str) -> None:
    """Wait until all know of a change, as they must within two seconds."""
    await eventually(
        lambda: all(one.changes and one.changes[-1].kind == kind for one in replicas),
        timeout_seconds=2,
    )


def replica(client: RedisClient) -> Replica:
    health, changes = Health(SystemClock()), list[Change]()
    health.listen(changes.append)
    return Replica(health, HealthSharing(health, RedisHealth(client)), changes)


@asynccontextmanager
async def running(one: Replica) -> AsyncIterator[Replica]:
    task = asyncio.create_task(one.sharing.run())
    yield one
    one.sharing.stop()
    await task


@pytest_asyncio.fixture
async def client(redis_settings: RedisSettings) -> AsyncIterator[RedisClient]:
    async with open_redis(redis_settings) as opened:
        yield opened


@pytest_asyncio.fixture
async def replicas(client: RedisClient) -> AsyncIterator[list[Replica]]:
    """Three replicas that exchange."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running(replica(client))) for _ in range(3)]


async def test_breaker_that_opens_here_is_open_everywhere_within_two_seconds(
    replicas: list[Replica],
) -> None:
    first, *others = replicas
    first.at().cool_down = CoolDown(seconds=60)
    first.fail()
    await eventually(lambda: not any(one.is_free() for one in others))
    assert [(change.kind, change.elsewhere) for change in others[0].changes] == [("opened", True)]
    assert others[0].is_free(OTHER)


async def test_pause_of_a_provider_is_everybodys_and_ends_by_itself(
    replicas: list[Replica],
) -> None:
    first, second, _ = replicas
    now = first.health.clock.monotonic()
    limited = ProviderRateLimit(retry_after_seconds=1.5)
    first.at(OTHER).failed(now, limited, trial=first.at(OTHER).begin(now), counts=True)
    await eventually(lambda: not second.is_free(OTHER))
    await eventually(lambda: second.is_free(OTHER))


async def test_one_replica_tries_and_its_success_frees_all(replicas: list[Replica]) -> None:
    replicas[0].fail()
    await told(replicas, "opened")
    # All of them want to try, again and again; one of them may.
    await eventually(lambda: any([one.is_free() for one in replicas]))
    await asyncio.gather(*(one.sharing.grant_wanted() for one in replicas))
    free = [one for one in replicas if one.is_free()]
    assert len(free) == 1
    free[0].succeed()
    await told(replicas, "closed")
    assert all(one.is_free() for one in replicas)


async def test_failed_trial_lets_all_rest_again(replicas: list[Replica]) -> None:
    replicas[0].fail()
    await told(replicas, "opened")
    await eventually(lambda: any([one.is_free() for one in replicas]))
    (free,) = (one for one in replicas if one.is_free())
    free.at().cool_down = CoolDown(seconds=60)
    free.fail(1)
    await asyncio.gather(*(one.sharing.exchange() for one in replicas))
    assert not any(one.is_free() for one in replicas)


async def test_numbers_of_others_are_added_up(client: RedisClient) -> None:
    first, second, third = (replica(client) for _ in range(3))
    for one, calls in ((first, 3), (second, 4)):
        for _ in range(calls):
            one.succeed()
        one.at().begin(one.health.clock.monotonic())
        await one.sharing.exchange()
    second.fail(1)
    await second.sharing.exchange()
    await third.sharing.exchange()
    others = third.at().others
    assert (others.in_flight, others.calls, others.failures) == (2, 8, 1)
    assert sum(others.first_tokens) == 7
    assert others.slowness == pytest.approx(0.1, rel=0.1)
    await first.sharing.exchange()
    assert first.at().others.calls == 5
    assert first.at().busy() == 2


async def test_without_redis_a_replica_judges_and_tries_alone() -> None:
    nowhere = RedisSettings(url="redis://127.0.0.1:1")
    async with open_redis(nowhere) as client:
        alone = replica(client)
        await alone.sharing.exchange()
        alone.fail()
        assert not alone.is_free()
        await eventually(lambda: alone.at().rests_until(0) is not None and alone.is_free() is False)
        await eventually(lambda: _tried(alone))
        await alone.sharing.grant_wanted()
        assert alone.is_free()


def _tried(one: Replica) -> bool:
    assert not one.is_free()
    return one.at().wanted


async def test_what_was_decided_while_redis_was_away_is_told_when_it_is_back(
    client: RedisClient,
) -> None:
    nowhere = RedisSettings(url="redis://127.0.0.1:1")
    second = replica(client)
    async with open_redis(nowhere) as away:
        shared = Moving(RedisHealth(away))
        health = Health(SystemClock())
        sharing = HealthSharing(health, shared)
        first = Replica(health, sharing, [])
        first.at().cool_down = CoolDown(seconds=60)
        first.fail()
        await sharing.exchange()
        shared.target = RedisHealth(client)
        await sharing.exchange()
    await second.sharing.exchange()
    assert not second.is_free()


@dataclass
class Moving:
    """A meeting place that moves to another server."""

    target: RedisHealth

    async def exchange(
        self,
        reports: Mapping[ModelKey, Numbers],
        decisions: Sequence[Decision],
        wanted: Sequence[ModelKey],
    ) -> Exchanged:
        return await self.target.exchange(reports, decisions, wanted)
