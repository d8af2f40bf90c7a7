"""Which instances are left out, and for how long (reliability.md D2)."""

from __future__ import annotations

import random

from meshwright_common.clock import ManualClock
from meshwright_common.rpc.outliers import CONSECUTIVE_FAILURES, REST_SECONDS, Outlier


def test_ejections_grow_are_forgiven_and_leave_half() -> None:
    clock = ManualClock()
    pool = [Outlier(clock) for _ in range(4)]

    def condemn(one: Outlier) -> bool:
        return [one.failed(pool) for _ in range(CONSECUTIVE_FAILURES)][-1]

    def seconds_out(one: Outlier) -> int:
        for seconds in range(400):
            if not one.is_ejected:
                return seconds
            clock.advance(1)
        raise AssertionError("for ever")

    random.seed(1)
    first, second, third, _ = pool
    assert not any(first.failed(pool) for _ in range(CONSECUTIVE_FAILURES - 1))
    first.succeeded()
    assert condemn(first)
    assert condemn(second)
    assert not condemn(third), "half of four are out already"
    assert 30 <= seconds_out(first) <= 36
    assert condemn(first)
    assert 60 <= seconds_out(first) <= 66
    clock.advance(1000)
    assert condemn(first)
    assert 30 <= seconds_out(first) <= 36
    assert condemn(first)
    first.reconnected()
    assert not first.is_ejected


def test_of_one_instance_none_is_left_out() -> None:
    clock = ManualClock()
    only_one = Outlier(clock)
    assert not any(only_one.failed([only_one]) for _ in range(20))
    assert only_one.rests
    clock.advance(REST_SECONDS)
    assert not only_one.rests
