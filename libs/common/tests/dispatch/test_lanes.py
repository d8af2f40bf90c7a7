"""Lanes by their weights, and pauses before retries (features.md O5)."""

from __future__ import annotations

from collections import Counter

import pytest

from meshwright_common.dispatch.lanes import (
    MAX_RETRIES,
    Lane,
    WeightedLanes,
    retry_delay_seconds,
    retry_rung_seconds,
)


def test_a_round_serves_each_lane_by_its_weight_and_spreads_the_turns() -> None:
    lanes = WeightedLanes()
    chosen = [lanes.choose(set(Lane)) for _ in range(14)]
    assert Counter(chosen) == {Lane.HIGH: 8, Lane.NORMAL: 4, Lane.LOW: 2}
    assert Lane.LOW in chosen[:7]
    assert chosen[:7] == chosen[7:]


def test_an_idle_lane_gives_its_turns_away_and_saves_none_up() -> None:
    lanes = WeightedLanes()
    for _ in range(100):
        lanes.choose({Lane.NORMAL, Lane.LOW})
    after = Counter(lanes.choose(set(Lane)) for _ in range(7))
    assert after[Lane.HIGH] <= 5
    assert after[Lane.LOW] >= 1


def test_the_only_lane_with_work_is_served() -> None:
    assert WeightedLanes().choose({Lane.LOW}) is Lane.LOW


@pytest.mark.parametrize(
    ("waiting", "most", "expected"),
    [
        ({Lane.HIGH: 100, Lane.NORMAL: 100, Lane.LOW: 100}, 7, {"high": 4, "normal": 2, "low": 1}),
        ({Lane.HIGH: 1, Lane.LOW: 9}, 5, {"high": 1, "low": 4}),
        ({Lane.HIGH: 0, Lane.NORMAL: 2}, 5, {"normal": 2}),
        ({}, 5, {}),
    ],
)
def test_shares_are_of_what_waits(
    waiting: dict[Lane, int], most: int, expected: dict[str, int]
) -> None:
    shares = WeightedLanes().shares(waiting, most)
    assert {lane.value: count for lane, count in shares.items()} == expected


def test_one_at_a_time_serves_as_many_at_once_do() -> None:
    lanes = WeightedLanes()
    waiting = dict.fromkeys(Lane, 100)
    taken = Counter(lane for _ in range(70) for lane in lanes.shares(waiting, 1))
    assert taken == {Lane.HIGH: 40, Lane.NORMAL: 20, Lane.LOW: 10}


def test_pauses_double_and_are_longer_by_a_quarter_at_most() -> None:
    for attempt, rung in enumerate((1, 2, 4), start=1):
        delays = [retry_delay_seconds(attempt) for _ in range(200)]
        assert rung <= min(delays) <= max(delays) <= rung * 1.25
        assert max(delays) - min(delays) > rung * 0.05


@pytest.mark.parametrize("attempt", [0, MAX_RETRIES + 1])
def test_there_are_three_attempts_more(attempt: int) -> None:
    with pytest.raises(ValueError, match="1 to 3"):
        retry_rung_seconds(attempt)
