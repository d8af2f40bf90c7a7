"""Summaries of measured values."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

DIGITS = 4
"""Decimals kept: times are in milliseconds, measured in microseconds."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Order statistics of a series. All zero when `count` is 0."""

    count: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    max: float = 0.0


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile of an ascending series; `share` in (0, 1].

    Raises: ValueError for an empty series.
    """
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def summarise(values: Sequence[float], *, scale: float = 1.0) -> Summary:
    """Return the summary of a series in any order, each value multiplied by `scale`."""
    if not values:
        return Summary()
    ordered = sorted(values)
    return Summary(
        count=len(ordered),
        mean=round(sum(ordered) / len(ordered) * scale, DIGITS),
        p50=round(percentile(ordered, 0.50) * scale, DIGITS),
        p90=round(percentile(ordered, 0.90) * scale, DIGITS),
        p99=round(percentile(ordered, 0.99) * scale, DIGITS),
        max=round(ordered[-1] * scale, DIGITS),
    )


@dataclass(frozen=True, slots=True)
class Spread:
    """Median of repeated measurements, with their range."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Return median and range of repeats. Raises: ValueError when there are none."""
    if not values:
        raise ValueError("no values")
    return Spread(statistics.median(values), min(values), max(values))
