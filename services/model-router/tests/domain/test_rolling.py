"""The last minute's numbers, and how slow something is lately."""

import pytest

from meshwright_model_router.domain.rolling import BOUNDS, Minute, PeakEwma, added, filled, quantile


def test_calls_are_forgotten_after_a_minute() -> None:
    minute = Minute()
    for second in range(120):
        minute.add(float(second), failed=second % 2 == 0)
    calls, failures = minute.counts(119.0)
    assert 50 <= calls <= 60
    assert failures * 2 == calls
    assert minute.counts(240.0) == (0, 0)


def test_quantiles_are_the_bounds_of_their_buckets() -> None:
    minute = Minute()
    for _ in range(99):
        minute.add(1.0, failed=False, first_token_seconds=0.04)
    minute.add(1.0, failed=False, first_token_seconds=9.0)
    buckets = minute.first_tokens(1.0)
    assert (quantile(buckets, 0.5), quantile(buckets, 0.99)) == (0.05, 0.05)
    assert quantile(buckets, 1.0) == 10.0
    assert quantile([0] * len(buckets), 0.5) is None


def test_buckets_of_replicas_add_up() -> None:
    assert added([filled({0: 1, 2: 3}), filled({2: 1, 999: 7})]) == filled({0: 1, 2: 4})
    assert quantile(filled({len(BOUNDS): 1}), 0.5) == BOUNDS[-1]


def test_slow_answer_counts_at_once_and_wanes() -> None:
    """Finagle's peak EWMA: up with the peak, down over its decay."""
    slow = PeakEwma()
    slow.observe(0.0, 0.1)
    slow.observe(1.0, 2.0)
    assert slow.at(1.0) == 2.0
    slow.observe(2.0, 0.1)
    assert 0.1 < slow.at(2.0) < 2.0
    assert slow.at(11.0) == pytest.approx(slow.at(1.0) / 2.718, rel=0.2)
    assert PeakEwma().at(5.0) == 0.0
