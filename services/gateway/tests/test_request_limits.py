"""Requests let in by rates and places: in Redis for all gateways, alone while it is away (R-20)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from meshwright_common.clock import ManualClock, SystemClock
from meshwright_common.errors import Unavailable
from meshwright_common.settings import RedisSettings
from meshwright_common.storage.embedded.valkey import EmbeddedValkey
from meshwright_common.storage.redis import RedisClient, open_redis
from meshwright_common.testing.waiting import eventually
from meshwright_gateway.adapters.redis_counters import RedisCounters, place_key, rate_key
from meshwright_gateway.errors import RateLimited, TooManyAtOnce
from meshwright_gateway.limits.counters import Answer, Batch, Counters, Group, PlaceUse, RateUse
from meshwright_gateway.limits.local_counters import LocalCounters
from meshwright_gateway.limits.rates import Rate
from meshwright_gateway.limits.request_limits import Ask, RequestLimits

pytestmark = pytest.mark.asyncio

TWENTY = Rate.of("user", 20, 3600)
"""So slow that none comes back during a test."""
FIVE = Rate.of("route chat", 5, 3600)
USER, ROUTE, PLACES = rate_key("user", "u"), rate_key("user", "u", "chat"), place_key("user", "u")


class Alone:
    """The counters of one gateway, asked as those of all."""

    def __init__(self) -> None:
        self._counters = LocalCounters(ManualClock(), 1)

    async def take(self, batch: Batch) -> Answer:
        return self._counters.take(batch)


@pytest_asyncio.fixture
async def client(redis_settings: RedisSettings) -> AsyncIterator[RedisClient]:
    async with open_redis(redis_settings) as client:
        yield client


@pytest.fixture(params=["redis", "alone"])
def counters(request: pytest.FixtureRequest) -> Counters:
    if request.param == "alone":
        return Alone()
    return RedisCounters(request.getfixturevalue("client"), "gateway-1")


def asked(*counts: int, place: PlaceUse | None = None) -> Batch:
    """Return groups that ask for the user's rate, for the route's as well, in turn."""
    rates = [RateUse(USER, TWENTY), RateUse(ROUTE, FIVE)]
    at = -1 if place is None else 0
    groups = [
        Group(count, at, (0,) if position % 2 == 0 else (0, 1))
        for position, count in enumerate(counts)
    ]
    return Batch(rates, [] if place is None else [place], groups)


async def test_a_limit_lets_in_what_it_says_and_no_more(counters: Counters) -> None:
    assert [await counters.take(asked(7))][0].admitted == [7]
    answer = await counters.take(asked(20))
    assert answer.admitted == [13]
    assert TWENTY.room(answer.levels[0]) == 0
    assert 0 < TWENTY.wait_seconds(answer.levels[0]) <= 180


@pytest.mark.promise("RATE-01")
async def test_who_is_refused_by_one_limit_is_not_charged_by_another(counters: Counters) -> None:
    """Of ten that ask for both, five pass the route's limit: five are charged, on both."""
    answer = await counters.take(asked(0, 10))
    assert answer.admitted == [0, 5]
    assert (await counters.take(asked(20))).admitted == [15]


async def test_groups_of_one_question_share_the_limits(counters: Counters) -> None:
    answer = await counters.take(asked(18, 5, 5))
    assert answer.admitted == [18, 2, 0]


@pytest.mark.promise("RATE-01")
async def test_places_are_counted_with_the_rates_or_not_at_all(counters: Counters) -> None:
    answer = await counters.take(asked(4, place=PlaceUse(PLACES, 0, 3)))
    assert (answer.admitted, answer.taken) == ([3], [3])
    # The fourth was not charged on the rate, either.
    assert (await counters.take(asked(20))).admitted == [17]


@pytest.mark.promise("RATE-04")
async def test_places_of_all_gateways_count_and_those_of_a_dead_one_end(
    client: RedisClient,
) -> None:
    """R-19: a gateway that was killed gives its places back by saying nothing more."""
    dead = RedisCounters(client, "dead", place_seconds=0.2)
    living = RedisCounters(client, "living")
    use = PlaceUse(PLACES, 0, 3)
    assert (await dead.take(asked(2, place=use))).admitted == [2]
    assert (await living.take(asked(3, place=use))).admitted == [1]

    async def freed() -> bool:
        answer = await living.take(Batch(places=[PlaceUse(PLACES, 1, 3)]))
        return answer.taken == [1]

    await eventually(freed)
    answer = await living.take(asked(5, place=PlaceUse(PLACES, 1, 3)))
    assert answer.admitted == [2]


async def test_what_a_gateway_says_that_it_holds_replaces_what_it_said(
    client: RedisClient,
) -> None:
    counters = RedisCounters(client, "gateway-1")
    await counters.take(asked(3, place=PlaceUse(PLACES, 0, 3)))
    answer = await counters.take(Batch(places=[PlaceUse(PLACES, 1, 3)]))
    assert answer.taken == [1]
    await counters.take(Batch(places=[PlaceUse(PLACES, 0, 3)]))
    assert await client.exists(PLACES) == 0


async def test_a_debt_is_charged_to_the_limit_and_not_beyond(client: RedisClient) -> None:
    counters = RedisCounters(client, "gateway-1")
    rate = RateUse(USER, TWENTY, debt=15)
    assert (await counters.take(Batch([rate], [], [Group(20, -1, (0,))]))).admitted == [5]
    rate = RateUse(USER, TWENTY, debt=1000)
    answer = await counters.take(Batch([rate], [], [Group(1, -1, (0,))]))
    assert TWENTY.wait_seconds(answer.levels[0]) <= 180


async def test_counters_end_by_themselves(client: RedisClient) -> None:
    counters = RedisCounters(client, "gateway-1")
    await counters.take(asked(20, place=PlaceUse(PLACES, 0, 50)))
    assert 0 < await client.pttl(USER) <= 3_602_000
    assert 0 < await client.pttl(PLACES) <= 47_000


async def test_a_question_without_contents_finds_out_whether_redis_is_there(
    client: RedisClient,
) -> None:
    assert await RedisCounters(client, "gateway-1").take(Batch()) == Answer([], [], [])


# --- the limits of a gateway ----------------------------------------------------------------------


class Switch:
    """Counters that can be taken away, and that count how often they were asked."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self.away = False
        self.asked = 0
        self.groups = 0

    async def take(self, batch: Batch) -> Answer:
        self.asked += 1
        self.groups += len(batch.groups)
        if self.away:
            raise Unavailable("taken away")
        return await self._counters.take(batch)


def ask(rate: Rate = TWENTY, places: int = 0) -> Ask:
    return Ask(((USER, rate),), (PLACES, places) if places else None)


MakeLimits = Callable[..., Awaitable[tuple[RequestLimits, Switch]]]


@asynccontextmanager
async def keeping(limits: RequestLimits) -> AsyncIterator[None]:
    keeper = asyncio.ensure_future(limits.keep())
    try:
        yield
    finally:
        keeper.cancel()
        await limits.close()


@pytest_asyncio.fixture
async def make_limits(client: RedisClient) -> AsyncIterator[MakeLimits]:
    async with AsyncExitStack() as stack:

        async def make(name: str = "gateway-1", replicas: int = 1) -> tuple[RequestLimits, Switch]:
            switch = Switch(RedisCounters(client, name))
            clock = SystemClock()
            limits = RequestLimits(switch, LocalCounters(clock, replicas), clock, timeout_seconds=2)
            await stack.enter_async_context(keeping(limits))
            return limits, switch

        yield make


async def admitted(limits: RequestLimits, what: Ask, count: int) -> int:
    results = await asyncio.gather(
        *(limits.take(what) for _ in range(count)), return_exceptions=True
    )
    assert all(isinstance(one, tuple | RateLimited) for one in results), results
    return sum(isinstance(one, tuple) for one in results)


async def test_requests_that_come_together_are_one_question(make_limits: MakeLimits) -> None:
    limits, switch = await make_limits()
    assert await admitted(limits, ask(Rate.of("user", 1000, 60)), 500) == 500
    assert switch.asked == 1
    assert switch.groups == 1


@pytest.mark.promise("RATE-02")
async def test_gateways_together_let_in_exactly_the_limit(make_limits: MakeLimits) -> None:
    """200 at once on each of 4 gateways against one limit."""
    gateways = [(await make_limits(f"gateway-{number}"))[0] for number in range(4)]
    rate = Rate.of("user", 300, 3600)
    counts = await asyncio.gather(*(admitted(one, ask(rate), 200) for one in gateways))
    assert sum(counts) == 300


@pytest.mark.promise("RATE-02")
async def test_gateways_together_give_exactly_the_places(make_limits: MakeLimits) -> None:
    gateways = [(await make_limits(f"gateway-{number}"))[0] for number in range(4)]
    what = [ask(Rate.of("user", 10_000, 60), places=50) for _ in gateways]
    counts = await asyncio.gather(
        *(admitted(one, each, 200) for one, each in zip(gateways, what, strict=True))
    )
    assert sum(counts) == 50
    for one, each, count in zip(gateways, what, counts, strict=True):
        for _ in range(count):
            one.leave(each)

    async def all_free() -> bool:
        return await admitted(gateways[0], what[0], 50) == 50

    await eventually(all_free)


async def test_the_answer_says_what_is_left(make_limits: MakeLimits) -> None:
    limits, _ = await make_limits()
    headers = dict(await limits.take(ask()))
    assert headers[b"x-ratelimit-limit-requests"] == b"20"
    assert headers[b"x-ratelimit-remaining-requests"] == b"19"
    assert headers[b"x-ratelimit-reset-requests"].endswith(b"s")


async def test_a_refusal_is_remembered_until_it_is_over(make_limits: MakeLimits) -> None:
    limits, switch = await make_limits()
    what = ask(Rate.of("user", 1, 1))
    await limits.take(what)
    with pytest.raises(RateLimited) as refused:
        await limits.take(what)
    assert 0 < (refused.value.retry_after_seconds or 0) <= 1
    questions = switch.asked
    with pytest.raises(RateLimited):
        await limits.take(what)
    assert switch.asked == questions

    async def let_in() -> bool:
        return await admitted(limits, what, 1) == 1

    await eventually(let_in)


@pytest.mark.promise("RATE-04")
async def test_a_request_that_ends_while_it_waits_leaves_no_place_behind(
    make_limits: MakeLimits,
) -> None:
    """R-14: whoever leaves gives back what it has, in whatever moment."""
    limits, _ = await make_limits()
    what = ask(places=1)
    for turns in range(6):
        taking = asyncio.ensure_future(limits.take(what))
        for _ in range(turns):
            await asyncio.sleep(0)
        taking.cancel()
        outcome = (await asyncio.gather(taking, return_exceptions=True))[0]
        if not isinstance(outcome, BaseException):
            limits.leave(what)
        await eventually(lambda: limits.held(PLACES) == 0)
    await limits.take(what)
    with pytest.raises(TooManyAtOnce):
        await limits.take(what)


@pytest.mark.promise("RATE-06")
async def test_while_redis_is_away_a_gateway_grants_its_share(make_limits: MakeLimits) -> None:
    """R-20: with two gateways each grants the half, and places too."""
    gateways = [await make_limits(f"gateway-{number}", replicas=2) for number in range(2)]
    for _, switch in gateways:
        switch.away = True
    counts = [await admitted(limits, ask(), 30) for limits, _ in gateways]
    assert counts == [10, 10]
    assert all(limits.is_alone for limits, _ in gateways)


@pytest.mark.promise("RATE-06")
async def test_the_share_begins_where_redis_left_off(make_limits: MakeLimits) -> None:
    limits, switch = await make_limits()
    assert await admitted(limits, ask(), 15) == 15
    switch.away = True
    assert await admitted(limits, ask(), 15) == 5


@pytest.mark.promise("RATE-06")
async def test_what_was_granted_alone_counts_when_redis_is_back(make_limits: MakeLimits) -> None:
    limits, switch = await make_limits()
    assert await admitted(limits, ask(places=50), 5) == 5
    switch.away = True
    assert await admitted(limits, ask(places=50), 6) == 6

    switch.away = False
    await eventually(lambda: not limits.is_alone)

    assert await admitted(limits, ask(places=50), 30) == 9
    assert limits.held(PLACES) == 20


@pytest.mark.promise("RATE-06")
@pytest.mark.timeout(170)
async def test_a_redis_that_stops_and_starts_refuses_nobody(tmp_path: Path) -> None:
    """R-20: within seconds alone, and within seconds shared again."""
    engine = EmbeddedValkey(tmp_path / "data", password="x", log=tmp_path / "log")
    engine.start()
    clock = SystemClock()
    async with open_redis(RedisSettings(url=engine.url)) as client:
        limits = RequestLimits(
            RedisCounters(client, "gateway-1"), LocalCounters(clock, 1), clock, timeout_seconds=0.5
        )
        async with keeping(limits):
            assert await admitted(limits, ask(), 5) == 5
            engine.stop()
            try:
                assert await admitted(limits, ask(), 5) == 5
                assert limits.is_alone
            finally:
                engine.start()
            await eventually(lambda: not limits.is_alone)
            assert await admitted(limits, ask(), 30) == 10
    engine.stop()


@pytest.mark.promise("RATE-06")
async def test_places_are_told_again_to_a_redis_that_lost_them(
    make_limits: MakeLimits, client: RedisClient
) -> None:
    limits, switch = await make_limits()
    await limits.take(ask(places=2))
    switch.away = True
    await limits.take(ask(places=2))
    await client.flushall()
    switch.away = False

    other, _ = await make_limits("gateway-2")

    async def none_left() -> bool:
        return not limits.is_alone and await admitted(other, ask(places=2), 1) == 0

    await eventually(none_left)
