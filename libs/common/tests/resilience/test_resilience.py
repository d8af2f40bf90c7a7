"""Back-off, retry budget and breaker (reliability.md D1, D2)."""

from datetime import timedelta

import pytest

from meshwright_common.clock import ManualClock
from meshwright_common.errors import NotFound, ResourceExhausted, Unavailable
from meshwright_common.resilience.breaker import Breaker, BreakerPolicy
from meshwright_common.resilience.retry import Backoff, retrying, transient

POLICY = BreakerPolicy(open_seconds=5, longest_open_seconds=15, half_open_calls=3)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def breaker(clock: ManualClock) -> Breaker:
    return Breaker("the provider", clock, POLICY)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.check()
        breaker.record_failure()


def succeed(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.check()
        breaker.record_success()


def refused_for(breaker: Breaker) -> float | None:
    with pytest.raises(Unavailable) as refused:
        breaker.check()
    return refused.value.retry_after_seconds


def test_delays_grow_are_capped_and_fully_jittered() -> None:
    backoff = Backoff(initial_seconds=0.05, factor=2, maximum_seconds=1)
    for attempt, ceiling in ((1, 0.05), (2, 0.1), (3, 0.2), (10, 1.0)):
        delays = [backoff.delay_seconds(attempt) for _ in range(300)]
        assert all(0 <= delay <= ceiling for delay in delays)
        assert max(delays) > ceiling * 0.8
        assert min(delays) < ceiling * 0.2


@pytest.mark.asyncio
async def test_transient_errors_are_retried_and_others_are_not() -> None:
    attempts = 0
    async for attempt in retrying(attempts=3, timeout_seconds=5):
        with attempt:
            attempts += 1
            if attempts < 3:
                raise Unavailable
    assert 3 == attempts
    assert not transient(NotFound())
    assert not transient(ValueError())
    assert not transient(ResourceExhausted())
    assert timedelta(seconds=2) == transient(ResourceExhausted(retry_after_seconds=2))


def test_breaker_opens_after_failures_in_a_row(breaker: Breaker) -> None:
    fail(breaker, 4)
    succeed(breaker)
    fail(breaker, 5)
    assert breaker.is_open
    assert 5 == refused_for(breaker)


def test_breaker_opens_on_the_share_of_failures(breaker: Breaker) -> None:
    for _ in range(9):
        fail(breaker)
        succeed(breaker)
    fail(breaker)
    assert not breaker.is_open
    fail(breaker)
    assert breaker.is_open


def test_old_failures_are_forgotten(breaker: Breaker, clock: ManualClock) -> None:
    for _ in range(9):
        fail(breaker)
        succeed(breaker)
    clock.advance(11)
    fail(breaker, 4)
    assert not breaker.is_open


def test_half_open_breaker_lets_one_call_pass_and_then_more(
    breaker: Breaker, clock: ManualClock
) -> None:
    fail(breaker, 5)
    clock.advance(5)
    breaker.check()
    refused_for(breaker)
    breaker.record_success()
    breaker.check()
    breaker.check()
    refused_for(breaker)
    breaker.record_success()
    breaker.record_success()
    succeed(breaker, 50)


def test_failure_while_half_open_opens_for_twice_as_long(
    breaker: Breaker, clock: ManualClock
) -> None:
    fail(breaker, 5)
    for expected in (10, 15, 15):
        clock.advance(15)
        fail(breaker)
        assert expected == refused_for(breaker)
    clock.advance(15)
    succeed(breaker, 3)
    fail(breaker, 5)
    assert 5 == refused_for(breaker)


def test_cancelled_trial_frees_its_place(breaker: Breaker, clock: ManualClock) -> None:
    fail(breaker, 5)
    clock.advance(5)
    breaker.check()
    refused_for(breaker)
    breaker.forget()
    breaker.check()
