"""What traces cost the fast path: a platform without them beside one with a tenth of them."""

from pathlib import Path
from typing import Final
from urllib.request import urlopen

from bench.figures import traffic
from bench.measurement import Measurement
from bench.platform_target import platform
from bench.processes import Placement, ProcessError, child, module
from bench.scenarios import Scenario
from bench.scenarios import traffic as traffic_scenarios
from bench.targets import RunningTarget, Target

NAME: Final = "telemetry_cost"
ABOUT: Final = (
    "completions and chat turns with 10 % of traces (and what failed) sent to a collector, divided "
    "by without any: CPU, requests/s, first token; 1 is no cost"
)
SCENARIOS: Final = ("ns32", "s100", "turns32")
SAMPLED: Final = {
    "MESHWRIGHT_TELEMETRY__TRACE_SAMPLE_RATIO": "0.1",
    "MESHWRIGHT_TELEMETRY__TRACE_SLOW_SECONDS": "10",
}
_LISTENING: Final = r"^listening (127\.0\.0\.1:\d+)"
_COMPARED: Final = (
    "requests_per_second",
    "cpu_ms_per_request",
    "first_token_p50_ms",
    "cpu_ms_per_1000_tokens",
)


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


def _ratios(
    scenario: Scenario, pair: list[RunningTarget], *, repeat: int, place: Placement
) -> dict[str, float]:
    """Return what is with traces, divided by what is without. Either goes first in turn."""
    order = pair if repeat % 2 else pair[::-1]
    seen = {
        one.url: traffic.measure(scenario, one, repeat=repeat, place=place).values for one in order
    }
    without, sampled = (seen[one.url] for one in pair)
    return {
        f"{scenario.name}_{metric}_ratio": sampled[metric] / without[metric]
        for metric in _COMPARED
        if without.get(metric) and metric in sampled
    }


def _count(address: str) -> float:
    with urlopen(f"http://{address}/spans", timeout=5) as answer:
        return float(answer.read())
