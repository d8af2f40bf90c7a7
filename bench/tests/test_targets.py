"""Simulator and relay run as processes and pass the same bytes."""

from pathlib import Path

import msgspec
import pytest

from bench.directives import ReplyPlan
from bench.figures.traffic import measure
from bench.load import Kind, Load
from bench.machine import Machine
from bench.measurement import compared, summarised
from bench.processes import ProcessError, child, placement
from bench.report import Report, append, markdown, write
from bench.scenarios import Focus, Scenario, traffic
from bench.targets import Target, running_targets, simulator


def _report(scenario: Scenario, scratch: Path) -> Report:
    place = placement()
    with (
        simulator(place) as upstream,
        running_targets(
            [Target.DIRECT, Target.RELAY], upstream=upstream, place=place, scratch=scratch
        ) as running,
    ):
        taken = [measure(scenario, target, repeat=0, place=place) for target in running]
    measurements = compared(taken)
    return Report(
        taken_at="2026-01-02T03:04Z",
        commit="abc",
        quick=True,
        scale=1.0,
        repeats=1,
        machine=Machine("x", 2, 1024, "6", "3.11", {}, 0.0, pinned=True),
        about={scenario.name: scenario.about},
        focus={scenario.name: scenario.focus},
        measurements=measurements,
        spreads=summarised(measurements),
        growth_mib_per_1000_turns={},
    )


def test_relay_passes_every_token_and_the_results_are_written(tmp_path: Path) -> None:
    scenario = Scenario(
        name="tiny",
        about="four short streams",
        focus=Focus.PACED,
        kind=Kind.COMPLETION_STREAM,
        plan=ReplyPlan(tokens=10, tokens_per_second=500, first_token_ms=5),
        load=Load(connections=4, seconds=5, max_requests=4),
    )

    report = _report(scenario, tmp_path)
    path = write(report, tmp_path)
    append(report, tmp_path / "RESULTS.md")

    assert [item.values["failed"] for item in report.measurements] == [0, 0]
    relay = report.spreads["tiny"][Target.RELAY]
    assert relay["pss_mib"].median > 1
    assert "added_first_token_p99_ms" in relay
    assert path.name == "20260102T0304Z-quick.json"
    assert msgspec.json.decode(path.read_bytes())["machine"]["cores"] == 2
    assert (tmp_path / "RESULTS.md").read_text() == "\n" + markdown(report)
    assert "| relay |" in markdown(report)


def test_scale_shrinks_s500_only() -> None:
    full = {item.name: item.load.connections for item in traffic(quick=True, scale=1.0)}
    small = {item.name: item.load.connections for item in traffic(quick=True, scale=0.1)}

    assert (full.pop("s500"), small.pop("s500")) == (500, 50)
    assert full == small


def test_process_that_ends_early_shows_its_output() -> None:
    command = ["sh", "-c", "echo no such luck; exit 3"]

    with (
        pytest.raises(ProcessError, match="no such luck"),
        child(command, ready="^ready$", cores=placement().system, timeout_seconds=5),
    ):
        pass
