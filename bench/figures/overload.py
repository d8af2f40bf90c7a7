"""What a platform does with three times as much as it can: its answers, and its refusals."""

from pathlib import Path

from bench.directives import ReplyPlan
from bench.figures.traffic import generate
from bench.load import Ask, Kind, Load, LoadReport
from bench.measurement import Measurement
from bench.platform_target import platform
from bench.processes import Placement
from bench.targets import RunningTarget, Target

NAME = "overload"
ABOUT = (
    "completions of 32 tokens by a schedule, at 0.7, 1, 3 and again 0.7 times what 64 connections "
    "got; load is shed as by default"
)
TOKENS = 32
CONNECTIONS = 1024
"""So many may wait at once; latency counts from when a request was due."""
_REFUSED = "HTTP 503"


def measure(
    target: Target,
    *,
    upstream: RunningTarget,
    place: Placement,
    scratch: Path,
    repeats: int,
    quick: bool,
) -> list[Measurement]:
    """Find the capacity, then offer shares of it, once per repeat."""
    seconds = 3.0 if quick else 10.0
    measurements = []
    with platform(
        scratch / f"{NAME}-{target}",
        upstream_url=upstream.url,
        split=target is Target.PLATFORM_SPLIT,
        place=place,
        sheds_load=True,
    ) as running:
        ask = Ask(
            kind=Kind.COMPLETION,
            prompt=ReplyPlan(tokens=TOKENS).directive(),
            expected_tokens=TOKENS,
            api_key=running.api_key,
        )

        def offer(rate: float | None, connections: int = CONNECTIONS) -> LoadReport:
            load = Load(connections=connections, seconds=seconds, rate=rate, drain_seconds=3)
            return generate(running.url, ask, load, place)

        for repeat in range(repeats):
            offer(None, 64)
            capacity = offer(None, 64).requests_per_second
            offer(0.7 * capacity)
            peak, surge, after = (offer(share * capacity) for share in (1.0, 3.0, 0.7))
            measurements.append(
                Measurement(NAME, target, repeat, _values(capacity, peak, surge, after), {})
            )
    return measurements


def _values(
    capacity: float, peak: LoadReport, surge: LoadReport, after: LoadReport
) -> dict[str, float]:
    best = max(capacity, peak.requests_per_second)
    return {
        "capacity_per_second": capacity,
        "surge_answers_per_second": surge.requests_per_second,
        "surge_share_of_peak_percent": surge.requests_per_second / best * 100,
        "surge_latency_p50_ms": surge.latency_ms.p50,
        "surge_latency_p99_ms": surge.latency_ms.p99,
        "refused_share_percent": 100
        * surge.errors.get(_REFUSED, 0)
        / max(surge.requests + surge.failed, 1),
        "refused_p50_ms": surge.refused_ms.p50,
        "refused_p99_ms": surge.refused_ms.p99,
        "other_errors": float(surge.failed - surge.errors.get(_REFUSED, 0)),
        "after_failed": float(after.failed),
        "after_latency_p99_ms": after.latency_ms.p99,
    }
