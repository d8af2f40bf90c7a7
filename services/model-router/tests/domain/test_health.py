"""When a deployment rests, and when it is tried again."""

import pytest

from meshwright_common.clock import ManualClock
from meshwright_common.errors import ServiceError
from meshwright_model_router.domain.catalogue import Deployment, Route
from meshwright_model_router.domain.errors import ProviderRateLimit, ProviderUnavailable
from meshwright_model_router.domain.health import Change, Health
from meshwright_model_router.domain.health_report import state_of
from meshwright_model_router.domain.health_values import BreakerState, Numbers, Rest
from meshwright_model_router.domain.model_health import ModelHealth
from meshwright_model_router.domain.routing import CoolDown

DEPLOYMENT = Deployment("one", "m", "openai")
ROUTE = Route(DEPLOYMENT, None, "m", CoolDown())


class Watched:
    """A health with what it told."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.health = Health(self.clock)
        self.changes: list[Change] = []
        self.health.listen(self.changes.append)

    @property
    def one(self) -> ModelHealth:
        return self.health.of(ROUTE)

    @property
    def is_free(self) -> bool:
        """Whether a call may go there; one that finds it rested wants it to be tried."""
        now = self.clock.monotonic()
        until = self.one.rests_until(now)
        if until is not None and until <= now:
            self.one.want()
        return until is None

    def fail(self, error: ServiceError | None = None, *, counts: bool = True) -> None:
        trial = self.one.begin(self.clock.monotonic())
        self.one.failed(
            self.clock.monotonic(), error or ProviderUnavailable(), trial=trial, counts=counts
        )

    def succeed(self, seconds: float | None = 0.1) -> None:
        trial = self.one.begin(self.clock.monotonic())
        self.one.succeeded(self.clock.monotonic(), seconds, trial=trial)

    def leave(self) -> None:
        self.one.forgotten(trial=self.one.begin(self.clock.monotonic()))


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_three_failures_in_a_row_open_the_breaker_for_a_minute(watched: Watched) -> None:
    for _ in range(2):
        watched.fail()
    watched.succeed()
    for _ in range(2):
        watched.fail()
    assert watched.is_free
    watched.fail()
    assert not watched.is_free
    assert [(one.kind, one.seconds) for one in watched.changes] == [("opened", 60.0)]
    watched.clock.advance(59)
    assert watched.one.state(watched.clock.monotonic()) is BreakerState.OPEN


def test_failed_fifth_of_a_minutes_calls_opens_the_breaker(watched: Watched) -> None:
    for _ in range(3):
        watched.fail()
        for _ in range(5):
            watched.succeed()
    assert watched.is_free
    watched.succeed()  # the 19th call
    watched.fail()  # the 20th, and the 4th failure
    assert not watched.is_free


def test_share_counts_the_calls_of_other_replicas(watched: Watched) -> None:
    watched.one.others = Numbers(calls=30, failures=6)
    watched.fail()
    assert not watched.is_free


def test_failures_of_a_minute_ago_are_forgotten(watched: Watched) -> None:
    for _ in range(2):
        watched.fail()
        watched.succeed()
    watched.clock.advance(70)
    for _ in range(18):
        watched.succeed()
    watched.fail()
    assert watched.is_free


def test_call_counts_once_for_a_deployment(watched: Watched) -> None:
    for _ in range(2):
        watched.fail()
        watched.fail(counts=False)
        watched.fail(counts=False)
    assert watched.is_free


def test_rate_limits_and_cancelled_calls_are_no_failures(watched: Watched) -> None:
    """F-52."""
    for _ in range(30):
        watched.fail(ProviderRateLimit())
        watched.leave()
    assert watched.is_free
    assert watched.one.in_flight == 0


def test_rate_limited_deployment_pauses_for_its_retry_after(watched: Watched) -> None:
    watched.fail(ProviderRateLimit(retry_after_seconds=7))
    watched.fail(ProviderRateLimit(retry_after_seconds=3))
    assert watched.one.rests_until(watched.clock.monotonic()) == watched.clock.monotonic() + 7
    watched.clock.advance(7)
    assert watched.is_free
    assert [(one.kind, one.seconds) for one in watched.changes] == [("paused", 7)]


def test_pause_is_an_hour_at_most(watched: Watched) -> None:
    watched.fail(ProviderRateLimit(retry_after_seconds=86_400))
    watched.clock.advance(3600)
    assert watched.is_free


@pytest.mark.asyncio
async def test_one_call_at_a_time_tries_a_rested_deployment(watched: Watched) -> None:
    for _ in range(3):
        watched.fail()
    watched.clock.advance(60)
    assert not watched.is_free, "nobody has granted the trial yet"
    assert watched.one.wanted
    await watched.health.grant_wanted()
    assert watched.is_free
    trial = watched.one.begin(watched.clock.monotonic())
    assert trial
    assert not watched.is_free, "one is under way"
    assert not watched.one.wanted
    watched.one.succeeded(watched.clock.monotonic(), 0.1, trial=trial)
    assert watched.is_free
    assert [one.kind for one in watched.changes] == ["opened", "closed"]


@pytest.mark.asyncio
async def test_trial_has_succeeded_when_its_answer_begins(watched: Watched) -> None:
    for _ in range(3):
        watched.fail()
    watched.clock.advance(60)
    assert not watched.is_free
    await watched.health.grant_wanted()
    trial = watched.one.begin(watched.clock.monotonic())
    watched.one.spoke(watched.clock.monotonic(), 0.1, trial=trial)
    assert watched.is_free
    assert watched.one.in_flight == 1


@pytest.mark.asyncio
async def test_failed_trial_lets_it_rest_again(watched: Watched) -> None:
    for _ in range(3):
        watched.fail()
    watched.clock.advance(60)
    assert not watched.is_free
    await watched.health.grant_wanted()
    watched.fail()
    assert watched.one.rests_until(watched.clock.monotonic()) == watched.clock.monotonic() + 60


@pytest.mark.asyncio
async def test_trial_that_is_left_says_nothing(watched: Watched) -> None:
    for _ in range(3):
        watched.fail()
    watched.clock.advance(60)
    assert not watched.is_free
    await watched.health.grant_wanted()
    watched.leave()
    assert watched.is_free
    assert watched.one.state(watched.clock.monotonic()) is BreakerState.HALF_OPEN


def test_success_of_a_call_from_before_the_opening_is_no_trial(watched: Watched) -> None:
    early = watched.one.begin(watched.clock.monotonic())
    for _ in range(3):
        watched.fail()
    watched.one.succeeded(watched.clock.monotonic(), 0.1, trial=early)
    assert not watched.is_free


def test_what_another_replica_decided_is_taken_over(watched: Watched) -> None:
    until = watched.clock.monotonic() + 30
    watched.health.learn(watched.one, Rest(until, "PROVIDER_TIMEOUT", broken=True))
    assert not watched.is_free
    watched.health.learn(watched.one, None)
    assert watched.is_free
    assert [(one.kind, one.elsewhere) for one in watched.changes] == [
        ("opened", True),
        ("closed", True),
    ]


def test_models_of_a_pattern_rest_apart_and_are_shown_together(watched: Watched) -> None:
    other = Route(DEPLOYMENT, None, "other", CoolDown())
    watched.succeed(0.2)
    for _ in range(3):
        watched.fail()
    assert watched.health.of(other).rests_until(watched.clock.monotonic()) is None
    state = state_of(watched.health, DEPLOYMENT)
    assert state.breaker is BreakerState.OPEN
    assert state.retry_time is not None
    assert (state.numbers.calls, state.error_rate) == (4, 0.75)
    assert state.first_token_p50 == 0.2
    assert state.last_failure is not None
    assert state.last_failure.reason == "PROVIDER_UNAVAILABLE"
