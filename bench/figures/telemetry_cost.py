"""What traces cost the fast path: a platform without them beside one with a tenth of them."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Final
from urllib.request import urlopen

from bench.figures import traffic
from bench.measurement import Measurement
from bench.platform_target import platform
from bench.process_usage import cpu_seconds
from bench.processes import Placement, ProcessError, child, module
from bench.scenarios import Scenario
from bench.scenarios import traffic as traffic_scenarios
from bench.targets import RunningTarget, Target

NAME: Final = "telemetry_cost"
ABOUT: Final = (
    "completions and chat turns with 10 % of traces (and what failed) sent to a collector, divided "
    "by without any: CPU, requests/s, first token; 1 is no cost"
)
SCENARIOS: Final = ("ns32", "ttft1", "turns32")
SAMPLED: Final = {
    "MESHWRIGHT_TELEMETRY__TRACE_SAMPLE_RATIO": "0.1",
    "MESHWRIGHT_TELEMETRY__TRACE_SLOW_SECONDS": "10",
}
_LISTENING: Final = r"^listening (127\.0\.0\.1:\d+)"
SLICES: Final = 8
SLICE_SECONDS: Final = 2.0


def measure(
    target: Target,
    *,
    upstream: RunningTarget,
    place: Placement,
    scratch: Path,
    repeats: int,
    quick: bool,
) -> list[Measurement]:
    """Run both platforms, one idle while the other is measured. Raises: ProcessError."""
    split = target is Target.PLATFORM_SPLIT
    scenarios = [one for one in traffic_scenarios(quick=quick, scale=1) if one.name in SCENARIOS]
    with (
        child(module("bench.otlp_sink"), ready=_LISTENING, cores=place.load) as sink,
        platform(
            scratch / f"{NAME}-off-{target}", upstream_url=upstream.url, split=split, place=place
        ) as off,
        platform(
            scratch / f"{NAME}-on-{target}",
            upstream_url=upstream.url,
            split=split,
            place=place,
            settings={
                **SAMPLED,
                "MESHWRIGHT_TELEMETRY__OTLP_ENDPOINT": f"http://{sink.ready[1]}",
            },
        ) as on,
    ):
        pair = [RunningTarget(target, one.url, one.api_key, one.child.pid) for one in (off, on)]
        measurements = []
        for repeat in range(repeats):
            values: dict[str, float] = {}
            for scenario in scenarios:
                values |= _ratios(scenario, pair, repeat=repeat, place=place)
            values["spans_so_far"] = _count(sink.ready[1])
            measurements.append(Measurement(NAME, target, repeat, values))
    if not measurements[-1].values["spans_so_far"]:
        raise ProcessError("no span came: nothing was measured")
    return measurements


@dataclass(slots=True)
class _Sum:
    """What one platform did in all slices of a scenario."""

    cpu_seconds: float = 0.0
    requests: int = 0
    first_token_ms: list[float] = field(default_factory=list)


def _ratios(
    scenario: Scenario, pair: list[RunningTarget], *, repeat: int, place: Placement
) -> dict[str, float]:
    """Return what is with traces, divided by what is without, over slices in turns.

    What else the machine does changes within seconds: short slices share it fairly. Raises:
    ProcessError when requests fail.
    """
    sums = {one.url: _Sum() for one in pair}
    load = replace(scenario.load, seconds=SLICE_SECONDS)
    for one in pair:
        traffic.generate(one.url, scenario.warm_up_ask(one.target, one.api_key), load, place)
    for number in range(repeat, repeat + SLICES):
        for one in pair if number % 2 else pair[::-1]:
            before = cpu_seconds(one.pid)
            report = traffic.generate(one.url, scenario.ask(one.target, one.api_key), load, place)
            if report.failed:
                raise ProcessError(f"{scenario.name}: {report.errors}")
            seen = sums[one.url]
            seen.cpu_seconds += cpu_seconds(one.pid) - before
            seen.requests += report.requests
            seen.first_token_ms.append(report.first_token_ms.p50)
    without, sampled = (sums[one.url] for one in pair)
    values = {
        f"{scenario.name}_cpu_per_request_ratio": (sampled.cpu_seconds / sampled.requests)
        / (without.cpu_seconds / without.requests),
        f"{scenario.name}_requests_ratio": sampled.requests / without.requests,
    }
    if median(without.first_token_ms):
        values[f"{scenario.name}_first_token_ratio"] = median(sampled.first_token_ms) / median(
            without.first_token_ms
        )
    return values


def _count(address: str) -> float:
    with urlopen(f"http://{address}/spans", timeout=5) as answer:
        return float(answer.read())
