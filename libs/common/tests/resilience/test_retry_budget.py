"""What may be repeated of calls that fail (R-17; reliability.md D2)."""

import pytest

from meshwright_common.clock import ManualClock
from meshwright_common.resilience.retry_budget import RetryBudget, RetryBudgets


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_a_tenth_of_the_calls_of_a_window_may_be_repeated(clock: ManualClock) -> None:
    budget = RetryBudget(clock)
    for _ in range(300):
        budget.record_call()
    assert 30 == sum(budget.try_spend() for _ in range(50))


def test_rare_calls_may_be_repeated_too(clock: ManualClock) -> None:
    budget = RetryBudget(clock)
    budget.record_call()
    assert 10 == sum(budget.try_spend() for _ in range(50))
    clock.advance(10)
    assert budget.try_spend()


def test_in_steady_failure_attempts_stay_within_a_tenth_of_the_calls(clock: ManualClock) -> None:
    budget = RetryBudget(clock)
    calls = attempts = 0
    for _ in range(6000):
        budget.record_call()
        calls += 1
        attempts += 1
        while budget.try_spend():
            attempts += 1
        clock.advance(0.01)
    assert calls < attempts <= 1.1 * calls


def test_calls_of_long_ago_give_nothing(clock: ManualClock) -> None:
    budget = RetryBudget(clock)
    for _ in range(1000):
        budget.record_call()
    clock.advance(1000)
    assert 10 == sum(budget.try_spend() for _ in range(50))


def test_layers_share_the_budget_of_an_upstream_and_upstreams_do_not(clock: ManualClock) -> None:
    budgets = RetryBudgets(clock)
    for _ in range(300):
        budgets.of("rag").record_call()
    assert 30 == sum(budgets.of("rag").try_spend() for _ in range(50))
    assert 10 == sum(budgets.of("chat").try_spend() for _ in range(50))
