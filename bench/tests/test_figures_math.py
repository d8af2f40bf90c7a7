"""Percentiles, comparisons and slopes are computed as the results say."""

import pytest

from bench.figures.memory import TURNS, growth_per_1000_turns
from bench.measurement import Measurement, compared, summarised
from bench.percentiles import Spread, Summary, percentile, spread, summarise
from bench.targets import Target


def test_percentile_is_the_nearest_rank() -> None:
    ordered = [float(value) for value in range(1, 101)]

    assert [percentile(ordered, share) for share in (0.5, 0.99, 1.0)] == [50.0, 99.0, 100.0]
    assert percentile([7.0], 0.5) == 7.0


def test_summary_scales_and_needs_no_order() -> None:
    assert summarise([3000, 1000, 2000], scale=1e-3) == Summary(3, 2.0, 2.0, 3.0, 3.0, 3.0)
    assert summarise([]) == Summary()


def test_spread_is_median_and_range() -> None:
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)


def test_targets_are_compared_within_their_own_repeat() -> None:
    def taken(target: Target, repeat: int, ttft: float, rate: float) -> Measurement:
        values = {"first_token_p50_ms": ttft, "requests_per_second": rate}
        return Measurement("ttft1", target, repeat, values)

    result = compared(
        [
            taken(Target.DIRECT, 0, 20.0, 1000),
            taken(Target.RELAY, 0, 21.0, 100),
            taken(Target.PLATFORM, 0, 22.0, 50),
            taken(Target.DIRECT, 1, 30.0, 1000),
            taken(Target.RELAY, 1, 32.0, 200),
            taken(Target.PLATFORM, 1, 33.0, 50),
        ]
    )

    platform = summarised(result)["ttft1"][Target.PLATFORM]
    assert platform["added_first_token_p50_ms"] == Spread(2.5, 2.0, 3.0)
    assert platform["added_first_token_p50_ms_vs_relay"] == Spread(1.75, 1.5, 2.0)
    assert platform["requests_per_second_vs_relay"] == Spread(0.375, 0.25, 0.5)


def test_growth_is_the_slope_of_the_second_half() -> None:
    sizes = [100.0, 200.0, 300.0, 310.0, 311.0, 312.0]
    blocks = [
        Measurement(TURNS, Target.PLATFORM, block, {"turns": block * 1000.0, "pss_mib": size})
        for block, size in enumerate(sizes)
    ]

    assert growth_per_1000_turns(blocks) == pytest.approx(1.0)


def test_growth_is_unknown_when_no_turn_was_answered() -> None:
    block = Measurement(TURNS, Target.PLATFORM, 0, {"turns": 0.0, "pss_mib": 100.0})

    assert growth_per_1000_turns([block] * 4) is None
