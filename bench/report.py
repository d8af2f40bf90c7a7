"""Results as JSON for machines and as Markdown tables for people."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.figures import memory
from bench.machine import Machine
from bench.measurement import ADDED, VERSUS_RELAY, Measurement
from bench.percentiles import Spread
from bench.scenarios import Focus

SCHEMA_VERSION = 1
Spreads = Mapping[str, Mapping[str, Mapping[str, Spread]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything about one run. `spreads`: figure → target → metric → median and range."""

    taken_at: str
    commit: str
    quick: bool
    scale: float
    repeats: int
    machine: Machine
    about: dict[str, str]
    """What each figure is, by its name."""
    focus: dict[str, Focus]
    """Which columns a traffic figure shows; other figures show all they have."""
    measurements: list[Measurement]
    spreads: Spreads
    growth_mib_per_1000_turns: dict[str, float]
    """By target; only when turns_memory ran."""
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    metric: str
    digits: int


_REQUESTS = [
    Column("requests/s", "requests_per_second", 0),
    Column("÷ relay", "requests_per_second" + VERSUS_RELAY, 2),
    Column("p50 ms", "latency_p50_ms", 2),
    Column("p99 ms", "latency_p99_ms", 2),
    Column("CPU ms/request", "cpu_ms_per_request", 3),
    Column("÷ relay", "cpu_ms_per_request" + VERSUS_RELAY, 1),
]
_FIRST_TOKEN = [
    Column("TTFT p50 ms", "first_token_p50_ms", 2),
    Column("added ms", ADDED + "first_token_p50_ms", 2),
    Column("÷ relay", ADDED + "first_token_p50_ms" + VERSUS_RELAY, 1),
    Column("TTFT p99 ms", "first_token_p99_ms", 2),
]
_TRANSIT = [
    Column("transit p50 ms", "transit_p50_ms", 2),
    Column("transit p99 ms", "transit_p99_ms", 2),
]
_TOKENS = [
    Column("CPU ms/1000 tokens", "cpu_ms_per_1000_tokens", 1),
    Column("÷ relay", "cpu_ms_per_1000_tokens" + VERSUS_RELAY, 1),
]
_END = [
    Column("MiB", "pss_mib", 0),
    Column("of services", "pss_services_mib", 0),
    Column("failed", "failed", 0),
]
_COLUMNS: Mapping[Focus, Sequence[Column]] = {
    Focus.REQUESTS: [*_REQUESTS, *_END],
    Focus.FIRST_TOKEN: [*_FIRST_TOKEN, *_TRANSIT, *_END],
    Focus.PACED: [
        Column("answer p50 ms", "latency_p50_ms", 0),
        Column("tokens/s", "tokens_per_second", 0),
        Column("TTFT p99 ms", "first_token_p99_ms", 1),
        Column("added p99 ms", ADDED + "first_token_p99_ms", 1),
        Column("÷ relay", ADDED + "first_token_p99_ms" + VERSUS_RELAY, 1),
        *_TRANSIT,
        Column("late > 50 ms %", "late_token_percent", 2),
        *_TOKENS,
        *_END,
    ],
    Focus.UNPACED: [
        Column("tokens/s", "tokens_per_second", 0),
        Column("÷ relay", "tokens_per_second" + VERSUS_RELAY, 2),
        *_TOKENS,
        *_END,
    ],
}
_UNITS = {"mib": "MiB", "ms": "ms", "percent": "%", "seconds": "s"}


def _cell(spread: Spread | None, digits: int, *, repeats: int) -> str:
    if spread is None:
        return "-"
    median = f"{spread.median:,.{digits}f}"
    if repeats == 1 or spread.low == spread.high:
        return median
    return f"{median} ({spread.low:,.{digits}f} - {spread.high:,.{digits}f})"


def _columns(report: Report, figure: str) -> Sequence[Column]:
    if figure in report.focus:
        return _COLUMNS[report.focus[figure]]
    metrics = {metric for values in report.spreads[figure].values() for metric in values}
    return [Column(_title(metric), metric, 2) for metric in sorted(metrics)]


def _title(metric: str) -> str:
    words, _, unit = metric.rpartition("_")
    return f"{words.replace('_', ' ')} {_UNITS[unit]}" if unit in _UNITS else metric


def _table(report: Report, figure: str) -> list[str]:
    columns = _columns(report, figure)
    targets = report.spreads[figure]
    used = [
        column for column in columns if any(column.metric in values for values in targets.values())
    ]
    lines = [
        f"**{figure}**: {report.about[figure]}",
        "",
        "| target | " + " | ".join(column.title for column in used) + " |",
        "|---|" + "---|" * len(used),
    ]
    for target, values in targets.items():
        cells = [
            _cell(values.get(column.metric), column.digits, repeats=report.repeats)
            for column in used
        ]
        lines.append(f"| {target} | " + " | ".join(cells) + " |")
    return [*lines, *_errors(report, figure), ""]


def _errors(report: Report, figure: str) -> list[str]:
    errors = sorted(
        {
            f"{item.target}: {error}"
            for item in report.measurements
            if item.figure == figure
            for error in item.errors
        }
    )
    return ["", "Errors seen: " + "; ".join(errors) + "."] if errors else []


def _turns(report: Report) -> list[str]:
    """Return memory over turns, one line per block: a range would hide whether it grows."""
    lines = [
        f"**{memory.TURNS}**: {report.about[memory.TURNS]}",
        "",
        "| target | turns | MiB | processes | failed |",
        "|---|---|---|---|---|",
    ]
    for item in report.measurements:
        if item.figure == memory.TURNS:
            values = item.values
            lines.append(
                f"| {item.target} | {values['turns']:,.0f} | {values['pss_mib']:,.1f} "
                f"| {values['processes']:.0f} | {values['failed']:.0f} |"
            )
    return [*lines, *_errors(report, memory.TURNS), ""]


def markdown(report: Report) -> str:
    """Return the run as a section of RESULTS.md; every figure in it was measured in this run."""
    machine = report.machine
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    pinned = (
        "generator and simulator on one core, the measured system on another"
        if machine.pinned
        else "one core for everything"
    )
    lines = [
        f"## {report.taken_at}, commit {report.commit}" + (", quick" if report.quick else ""),
        "",
        f"{machine.processor}, {machine.cores} cores, {machine.memory_mib / 1024:.0f} GiB, Linux "
        f"{machine.kernel}, Python {machine.python}; {packages}. {pinned.capitalize()}; "
        f"load average before: {machine.load_average:.2f}. "
        f"Median (lowest - highest) of {report.repeats} interleaved repeats.",
        "",
    ]
    for figure in report.spreads:
        lines += _turns(report) if figure == memory.TURNS else _table(report, figure)
    for target, growth in report.growth_mib_per_1000_turns.items():
        lines += [f"{target}: memory grows by {growth:.2f} MiB per 1 000 turns.", ""]
    return "\n".join(lines)


def write(report: Report, folder: Path) -> Path:
    """Write the run as JSON and return the file's path."""
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^0-9TZ]", "", report.taken_at) + ("-quick" if report.quick else "")
    path = folder / f"{name}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    return path


def append(report: Report, path: Path, end: str = "") -> None:
    """Append the run's section, and `end`, to the Markdown file."""
    with path.open("a") as file:
        file.write("\n" + markdown(report) + (f"\n{end}" if end else ""))
