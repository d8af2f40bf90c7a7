"""Measured values, compared within one repeat and summarised over the repeats."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bench.percentiles import Spread, spread
from bench.targets import Target

ADDED = "added_"
"""Prefix: the value less what the direct run of the same repeat showed."""
VERSUS_RELAY = "_vs_relay"
"""Suffix: the value divided by the relay's of the same repeat."""
_ADDED_METRICS = ("first_token_p50_ms", "first_token_p99_ms")
_COMPARED_METRICS = (
    "requests_per_second",
    "tokens_per_second",
    "cpu_ms_per_request",
    "cpu_ms_per_1000_tokens",
    "added_first_token_p50_ms",
    "added_first_token_p99_ms",
)


@dataclass(frozen=True, slots=True)
class Measurement:
    """Values of one figure of one target in one repeat, by metric; names tell the unit."""

    figure: str
    target: Target
    repeat: int
    values: dict[str, float]
    errors: dict[str, int] = field(default_factory=dict)


def compared(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Return the measurements with what each adds to direct, and its ratio to the relay.

    Compared is only what ran in the same repeat, minutes apart at most: the machine's own
    ups and downs hit both sides.
    """
    with_added = [
        _with_added(measurement, _of(measurements, measurement, Target.DIRECT))
        for measurement in measurements
    ]
    return [
        _with_ratios(measurement, _of(with_added, measurement, Target.RELAY))
        for measurement in with_added
    ]


def _of(
    measurements: Iterable[Measurement], like: Measurement, target: Target
) -> Mapping[str, float]:
    for measurement in measurements:
        same = measurement.figure == like.figure and measurement.repeat == like.repeat
        if same and measurement.target is target:
            return measurement.values
    return {}


def _with_added(measurement: Measurement, direct: Mapping[str, float]) -> Measurement:
    if measurement.target is Target.DIRECT:
        return measurement
    added = {
        ADDED + name: measurement.values[name] - direct[name]
        for name in _ADDED_METRICS
        if name in measurement.values and name in direct
    }
    return replace(measurement, values={**measurement.values, **added})


def _with_ratios(measurement: Measurement, relay: Mapping[str, float]) -> Measurement:
    if not (measurement.target.is_platform or measurement.target is Target.LITELLM):
        return measurement
    ratios = {
        name + VERSUS_RELAY: measurement.values[name] / relay[name]
        for name in _COMPARED_METRICS
        if name in measurement.values and relay.get(name, 0.0) > 0
    }
    return replace(measurement, values={**measurement.values, **ratios})


def summarised(
    measurements: Sequence[Measurement],
) -> dict[str, dict[str, dict[str, Spread]]]:
    """Return median and range over the repeats, by figure, target and metric."""
    series: dict[str, dict[str, dict[str, list[float]]]] = {}
    for measurement in measurements:
        metrics = series.setdefault(measurement.figure, {}).setdefault(measurement.target, {})
        for name, value in measurement.values.items():
            metrics.setdefault(name, []).append(value)
    return {
        figure: {
            target: {name: spread(values) for name, values in metrics.items()}
            for target, metrics in targets.items()
        }
        for figure, targets in series.items()
    }
