"""What traces cost the fast path: a platform without them beside one with a tenth of them.

Two processes of the same program differ by some per cent for as long as they live: by how their
memory lies, and by the seed of their dictionaries. So each repeat has a fresh pair with one seed,
the other of the two is the first to start, and the first to be measured, in every second one.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
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
_ONE_SEED: Final = {"PYTHONHASHSEED": "0"}
SLICES: Final = 8
SLICE_SECONDS: Final = 2.0
DRAIN_SECONDS: Final = 30.0
"""A busy machine takes longer for the last answers of a slice, and that is no failure."""


def measure(
    target: Target,
    *,
    upstream: RunningTarget,
    place: Placement,
    scratch: Path,
    repeats: int,
    quick: bool,
) -> list[Measurement]:
    """Run a pair of platforms a repeat, one idle while the other is measured.

    Raises: ProcessError.
    """
    scenarios = [one for one in traffic_scenarios(quick=quick, scale=1) if one.name in SCENARIOS]
    measurements = []
    with child(module("bench.otlp_sink"), ready=_LISTENING, cores=place.load) as sink:
        sampled = {**SAMPLED, "MESHWRIGHT_TELEMETRY__OTLP_ENDPOINT": f"http://{sink.ready[1]}"}
        for repeat in range(repeats):
            values: dict[str, float] = {}
            before = _count(sink.ready[1])
            folder = scratch / f"{NAME}-{target}-{repeat}"
            with _pair(
                target, sampled, folder, upstream=upstream, place=place, swapped=repeat % 2 == 1
            ) as pair:
                for scenario in scenarios:
                    values |= _ratios(scenario, pair, repeat=repeat, place=place)
            values["spans"] = _count(sink.ready[1]) - before
            if not values["spans"]:
                raise ProcessError("no span came: nothing was measured")
            measurements.append(Measurement(NAME, target, repeat, values))
    return measurements


@contextmanager
def _pair(
    target: Target,
    sampled: Mapping[str, str],
    folder: Path,
    *,
    upstream: RunningTarget,
    place: Placement,
    swapped: bool,
) -> Iterator[list[RunningTarget]]:
    """Run both, and yield the one without traces first; `swapped`: the other one starts first."""
    running: dict[str, RunningTarget] = {}
    kinds = {"off": {}, "on": sampled}
    with ExitStack() as stack:
        for name in reversed(kinds) if swapped else kinds:
            one = stack.enter_context(
                platform(
                    folder / name,
                    upstream_url=upstream.url,
                    split=target is Target.PLATFORM_SPLIT,
                    place=place,
                    settings={**_ONE_SEED, **kinds[name]},
                )
            )
            running[name] = RunningTarget(target, one.url, one.api_key, one.child.pid)
        yield [running["off"], running["on"]]


@dataclass(slots=True)
class _Slices:
    """What one platform did in each slice of a scenario."""

    cpu_per_request: list[float] = field(default_factory=list)
    requests: list[float] = field(default_factory=list)
    first_token_ms: list[float] = field(default_factory=list)


def _ratios(
    scenario: Scenario, pair: list[RunningTarget], *, repeat: int, place: Placement
) -> dict[str, float]:
    """Return what is with traces, divided by what is without, over slices in turns.

    What else the machine does changes within seconds: short slices share it fairly, and the median
    of them leaves out those that had bad luck. Raises: ProcessError when requests fail.
    """
    slices = {one.url: _Slices() for one in pair}
    load = replace(scenario.load, seconds=SLICE_SECONDS, drain_seconds=DRAIN_SECONDS)
    for one in pair:
        traffic.generate(one.url, scenario.warm_up_ask(one.target, one.api_key), load, place)
    for number in range(repeat, repeat + SLICES):
        for one in pair if number % 2 else pair[::-1]:
            before = cpu_seconds(one.pid)
            report = traffic.generate(one.url, scenario.ask(one.target, one.api_key), load, place)
            if report.failed:
                raise ProcessError(f"{scenario.name}: {report.errors}")
            seen = slices[one.url]
            seen.cpu_per_request.append((cpu_seconds(one.pid) - before) / report.requests)
            seen.requests.append(report.requests)
            seen.first_token_ms.append(report.first_token_ms.p50)
    without, sampled = (slices[one.url] for one in pair)
    values = {
        f"{scenario.name}_cpu_per_request_ratio": median(sampled.cpu_per_request)
        / median(without.cpu_per_request),
        f"{scenario.name}_requests_ratio": median(sampled.requests) / median(without.requests),
    }
    if median(without.first_token_ms):
        values[f"{scenario.name}_first_token_ratio"] = median(sampled.first_token_ms) / median(
            without.first_token_ms
        )
    return values


def _count(address: str) -> float:
    with urlopen(f"http://{address}/spans", timeout=5) as answer:
        return float(answer.read())
