"""Goals are judged by ratios within one repeat, and what was not measured is not called met."""

from collections.abc import Mapping

import pytest

from bench.goals import GOALS, GUARDED, judged, table
from bench.measurement import Measurement
from bench.targets import Target


def _measured(
    target: Target, repeat: int, values: Mapping[str, float], figure: str = "ns32"
) -> Measurement:
    return Measurement(figure, target, repeat, dict(values))


def _rates(relay: float, platform: float, repeat: int) -> list[Measurement]:
    return [
        _measured(Target.RELAY, repeat, {"requests_per_second": relay}),
        _measured(Target.PLATFORM, repeat, {"requests_per_second": platform}),
    ]


@pytest.mark.parametrize(("platform", "met"), [(1900.0, True), (1700.0, False)])
def test_ratio_is_the_median_of_the_ratios_within_one_repeat(platform: float, met: bool) -> None:
    # The second repeat ran on a machine half as fast: its ratio is the same.
    measurements = [
        *_rates(9000, platform, 0),
        *_rates(4500, platform / 2, 1),
        *_rates(9000, 100, 2),
    ]
    first = judged(measurements, [1], Target.RELAY)[0]
    assert first.measured == pytest.approx(platform / 9000)
    assert (first.compared, first.is_met) == (3, met)


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    judgements = judged([_measured(Target.PLATFORM, 0, {"requests_per_second": 10.0})])
    assert len(judgements) == len(GOALS)
    assert {one.is_met for one in judgements} == {None}
    assert "| - | - |" in table(judgements)


def test_upper_bounds_are_upper() -> None:
    measurements = [
        _measured(Target.PLATFORM, 0, {"cpu_ms_per_request": 0.4}),
        _measured(Target.PLATFORM_SPLIT, 0, {"cpu_ms_per_request": 1.5}),
    ]
    met = {one.goal.target: one.is_met for one in judged(measurements, [2])}
    assert met == {Target.PLATFORM: True, Target.PLATFORM_SPLIT: False}
    assert "**no**" in table(judged(measurements, [2]))


def test_what_the_peer_sustains_is_taken_from_the_load_that_it_can_carry() -> None:
    measurements = [
        _measured(Target.LITELLM, 0, {"tokens_per_second": 1700.0}, "s100"),
        _measured(Target.PLATFORM, 0, {"tokens_per_second": 15_300.0}, "s500"),
    ]
    sixth = judged(measurements, [6], Target.LITELLM)[0]
    assert sixth.measured == pytest.approx(9)


def test_guarded_goals_compare_the_one_process_with_the_relay() -> None:
    guarded = judged([], GUARDED, Target.RELAY)
    numbers = {one.goal.number for one in guarded if one.goal.target is Target.PLATFORM}
    assert numbers == set(GUARDED)
