"""Memory of the platform's whole process tree: idle, and over many turns."""

import time
from collections.abc import Sequence

from bench.directives import ReplyPlan
from bench.figures.traffic import generate
from bench.load import Ask, Kind, Load
from bench.measurement import Measurement
from bench.process_usage import Memory, cpu_seconds, memory
from bench.processes import Placement
from bench.targets import RunningTarget

IDLE = "idle_memory"
IDLE_ABOUT = "PSS of the process tree 5 s after ready, before the first request, and its idle CPU"
TURNS = "turns_memory"
TURNS_ABOUT = "PSS of the process tree while turns of the chat agent run, 16 connections"
SETTLE_SECONDS = 5.0
TURN_CONNECTIONS = 16
TURN_TOKENS = 8
BLOCKS = 10
_MEBIBYTE = 2**20


def _values(measured: Memory) -> dict[str, float]:
    values = {f"pss_{name}_mib": size / _MEBIBYTE for name, size in measured.by_name.items()}
    return {
        "pss_mib": measured.pss_bytes / _MEBIBYTE,
        "pss_services_mib": measured.services_bytes / _MEBIBYTE,
        "processes": float(measured.processes),
        **values,
    }


def measure_idle(running: RunningTarget) -> list[Measurement]:
    """Wait until start-up work is over, then measure; the wait also gives the idle CPU."""
    before = cpu_seconds(running.pid)
    time.sleep(SETTLE_SECONDS)
    used = cpu_seconds(running.pid) - before
    values = _values(memory(running.pid))
    values["idle_cpu_percent"] = used / SETTLE_SECONDS * 100
    return [Measurement(IDLE, running.target, 0, values)]


def measure_turns(running: RunningTarget, *, turns: int, place: Placement) -> list[Measurement]:
    """Run the turns in blocks and measure after each; repeat 0 is the state before them."""
    plan = ReplyPlan(tokens=TURN_TOKENS)
    ask = Ask(
        kind=Kind.TURN_STREAM,
        prompt=plan.directive(),
        expected_tokens=plan.tokens,
        api_key=running.api_key,
    )
    load = Load(
        connections=TURN_CONNECTIONS,
        seconds=300.0,
        max_requests=max(1, turns // BLOCKS),
        drain_seconds=30.0,
    )
    measurements = [_block(running, 0, 0, {})]
    done = 0
    for block in range(1, BLOCKS + 1):
        report = generate(running.url, ask, load, place)
        done += report.requests
        measurements.append(_block(running, block, done, report.errors))
    return measurements


def _block(running: RunningTarget, block: int, turns: int, errors: dict[str, int]) -> Measurement:
    values = _values(memory(running.pid))
    values["turns"] = float(turns)
    values["failed"] = float(sum(errors.values()))
    return Measurement(TURNS, running.target, block, values, errors)


def growth_per_1000_turns(measurements: Sequence[Measurement]) -> float | None:
    """Return the slope of memory over turns in MiB per 1 000 turns, least squares.

    The first half is left out: caches fill and pools grow to their size in it. None when too
    few turns were answered to tell.
    """
    points = [(item.values["turns"], item.values["pss_mib"]) for item in measurements]
    points = points[len(points) // 2 :]
    if len(points) < 2:
        return None
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread_x = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread_x:
        return None
    return 1000 * sum((x - mean_x) * (y - mean_y) for x, y in points) / spread_x
