"""Runs the chosen figures for the chosen targets, interleaved, and collects a report."""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench import machine as machine_facts
from bench.figures import (
    agent_runs,
    cancels,
    context_load,
    dispatch,
    events,
    guards,
    limits,
    link,
    memory,
    memory_writes,
    overload,
    own_schemas,
    ready_time,
    records,
    sealing,
    session_size,
    steps,
    tasks,
    telemetry_cost,
    traffic,
)
from bench.measurement import Measurement, compared, summarised
from bench.processes import Placement, placement
from bench.report import Report
from bench.scenarios import Scenario
from bench.scenarios import traffic as traffic_scenarios
from bench.targets import RunningTarget, Target, running_targets, simulator

PLATFORM_FIGURES = {
    ready_time.NAME: ready_time.ABOUT,
    memory.IDLE: memory.IDLE_ABOUT,
    memory.TURNS: memory.TURNS_ABOUT,
    memory_writes.NAME: memory_writes.ABOUT,
    overload.NAME: overload.ABOUT,
    telemetry_cost.NAME: telemetry_cost.ABOUT,
}
TURNS = 10_000
QUICK_TURNS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to run."""

    figures: Sequence[str]
    """Names; empty means all that the targets allow."""
    targets: Sequence[Target]
    repeats: int
    quick: bool
    scale: float
    idle_of_all: bool = False
    """Measure the memory of all targets, side by side, before their first request."""


def about(choice: Choice) -> dict[str, str]:
    """Return all figures by name, in the order in which they run."""
    scenarios = traffic_scenarios(quick=choice.quick, scale=choice.scale)
    return (
        {scenario.name: scenario.about for scenario in scenarios}
        | PLATFORM_FIGURES
        | {dispatch.NAME: dispatch.ABOUT, session_size.NAME: session_size.ABOUT}
        | {context_load.NAME: context_load.ABOUT, own_schemas.NAME: own_schemas.ABOUT}
        | {sealing.NAME: sealing.ABOUT, link.NAME: link.ABOUT, guards.NAME: guards.ABOUT}
        | {agent_runs.NAME: agent_runs.ABOUT}
        | tasks.ABOUT
        | {cancels.NAME: cancels.ABOUT}
        | {steps.NAME: steps.ABOUT}
        | limits.ABOUT
        | events.ABOUT
        | records.ABOUT
    )


def run(choice: Choice) -> Report:
    """Run everything chosen.

    Raises: ProcessError when a target cannot be started.
    """
    # Direct always runs: it is what "added" is measured from, and the bound of every figure.
    others = [target for target in choice.targets if target is not Target.DIRECT]
    place = placement()
    facts = machine_facts.machine()
    taken_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ")
    wanted = set(choice.figures or about(choice))
    scenarios = [
        scenario
        for scenario in traffic_scenarios(quick=choice.quick, scale=choice.scale)
        if scenario.name in wanted
    ]
    measurements: list[Measurement] = []
    growth: dict[str, float] = {}
    with simulator(place) as upstream, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        scratch = Path(folder)
        for target in (target for target in others if target.is_platform):
            measurements += _platform_figures(
                target,
                wanted,
                choice,
                upstream=upstream,
                place=place,
                scratch=scratch,
                growth=growth,
            )
        if link.NAME in wanted:
            _progress(link.NAME)
            measurements += link.measure(
                *(scratch, place), repeats=choice.repeats, quick=choice.quick
            )
        if agent_runs.NAME in wanted:
            _progress(agent_runs.NAME)
            measurements += agent_runs.measure(
                upstream=upstream,
                place=place,
                scratch=scratch,
                repeats=choice.repeats,
                quick=choice.quick,
            )
        measurements += _engine_figures(wanted, choice, scratch)
        if scenarios:
            with running_targets(
                [Target.DIRECT, *others], upstream=upstream, place=place, scratch=scratch
            ) as running:
                if choice.idle_of_all:
                    measurements += _idle(running)
                measurements += _interleaved(scenarios, running, choice.repeats, place)
    measurements = compared(measurements)
    return Report(
        taken_at=taken_at,
        commit=machine_facts.commit(),
        quick=choice.quick,
        scale=choice.scale,
        repeats=choice.repeats,
        machine=facts,
        about=about(choice),
        focus={scenario.name: scenario.focus for scenario in scenarios},
        measurements=measurements,
        spreads=summarised(measurements),
        growth_mib_per_1000_turns=growth,
    )


def _engine_figures(wanted: set[str], choice: Choice, scratch: Path) -> list[Measurement]:
    """Measure what stands on engines alone: brokers beside their clients, tables at size."""
    measurements: list[Measurement] = []
    for figure in (dispatch, session_size, context_load, own_schemas, sealing, steps):
        if figure.NAME in wanted:
            _progress(figure.NAME)
            folder = scratch / figure.NAME
            folder.mkdir()
            measurements += figure.measure(
                repeats=choice.repeats, quick=choice.quick, scratch=folder
            )
    if wanted & events.ABOUT.keys():
        _progress("events")
        folder = scratch / "events"
        folder.mkdir()
        measurements += events.measure(
            wanted, repeats=choice.repeats, quick=choice.quick, scratch=folder
        )
    if wanted & limits.ABOUT.keys():
        _progress("limits")
        folder = scratch / "limits"
        folder.mkdir()
        measurements += limits.measure(wanted, quick=choice.quick, scratch=folder)
    if guards.NAME in wanted:
        _progress(guards.NAME)
        measurements += guards.measure(repeats=choice.repeats, quick=choice.quick)
    if wanted & records.ABOUT.keys():
        _progress("records")
        folder = scratch / "records"
        folder.mkdir()
        measurements += records.measure(
            wanted, repeats=choice.repeats, quick=choice.quick, scratch=folder
        )
    return measurements


def _interleaved(
    scenarios: Sequence[Scenario],
    running: Sequence[RunningTarget],
    repeats: int,
    place: Placement,
) -> list[Measurement]:
    measurements = []
    for repeat in range(repeats):
        for scenario in scenarios:
            # Another target goes first each time, so that none always follows the same one.
            first = repeat % len(running)
            for target in (*running[first:], *running[:first]):
                if target.target in scenario.beyond:
                    continue
                _progress(f"{repeat + 1}/{repeats} {scenario.name} {target.target}")
                measurements.append(traffic.measure(scenario, target, repeat=repeat, place=place))
    order = [target.target for target in running]
    return sorted(measurements, key=lambda item: order.index(item.target))


def _idle(running: Sequence[RunningTarget]) -> list[Measurement]:
    measurements: list[Measurement] = []
    for target in running:
        if target.target is not Target.DIRECT:
            _progress(f"{memory.IDLE} {target.target}")
            measurements += memory.measure_idle(target)
    return measurements


def _figures_of_traffic(
    target: Target,
    wanted: set[str],
    choice: Choice,
    *,
    upstream: RunningTarget,
    place: Placement,
    scratch: Path,
) -> list[Measurement]:
    """Measure what takes load on platforms with settings of their own."""
    measurements: list[Measurement] = []
    for figure in (overload, telemetry_cost):
        if figure.NAME in wanted:
            _progress(f"{figure.NAME} {target}")
            measurements += figure.measure(
                target,
                upstream=upstream,
                place=place,
                scratch=scratch,
                repeats=choice.repeats,
                quick=choice.quick,
            )
    return measurements


def _platform_figures(
    target: Target,
    wanted: set[str],
    choice: Choice,
    *,
    upstream: RunningTarget,
    place: Placement,
    scratch: Path,
    growth: dict[str, float],
) -> list[Measurement]:
    measurements: list[Measurement] = []
    if ready_time.NAME in wanted:
        _progress(f"{ready_time.NAME} {target}")
        measurements += ready_time.measure(
            target, upstream=upstream, repeats=choice.repeats, place=place, scratch=scratch
        )
    measurements += _figures_of_traffic(
        target, wanted, choice, upstream=upstream, place=place, scratch=scratch
    )
    if wanted & tasks.ABOUT.keys():
        _progress(f"tasks {target}")
        measurements += tasks.measure(
            wanted, target, upstream=upstream, place=place, scratch=scratch, quick=choice.quick
        )
    if cancels.NAME in wanted and target is Target.PLATFORM_SPLIT:
        _progress(cancels.NAME)
        measurements += cancels.measure(
            upstream=upstream, place=place, scratch=scratch, quick=choice.quick
        )
    if not wanted & {memory.IDLE, memory.TURNS, memory_writes.NAME}:
        return measurements
    with running_targets([target], upstream=upstream, place=place, scratch=scratch) as running:
        if memory.IDLE in wanted:
            _progress(f"{memory.IDLE} {target}")
            measurements += memory.measure_idle(running[0])
        if memory_writes.NAME in wanted and target is Target.PLATFORM:
            _progress(f"{memory_writes.NAME} {target}")
            measurements += memory_writes.measure(running[0], quick=choice.quick)
        if memory.TURNS in wanted:
            _progress(f"{memory.TURNS} {target}")
            turns = QUICK_TURNS if choice.quick else TURNS
            blocks = memory.measure_turns(running[0], turns=turns, place=place)
            slope = memory.growth_per_1000_turns(blocks)
            if slope is not None:
                growth[target.value] = slope
            measurements += blocks
    return measurements


def _progress(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
