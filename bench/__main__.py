"""The command `python -m bench`: run measurements, list what there is.

python -m bench run --quick --targets relay              a first look, needs no platform
python -m bench run                                      all figures; appends to RESULTS.md
python -m bench run --scenario ns32 --scenario ttft1     only these
python -m bench goals                                    the goals, beside LiteLLM: 12 minutes
python -m bench guard                                    exit code 1 when a guarded goal is missed
python -m bench list                                     the names and what they are
"""

import argparse
import sys
from pathlib import Path

from bench import goals
from bench import report as reports
from bench.processes import ProcessError
from bench.runner import Choice, about, run
from bench.targets import Target

HERE = Path(__file__).resolve().parent
REPEATS, QUICK_REPEATS = 5, 2
GOALS_REPEATS = 3
DEFAULT_TARGETS = "relay,platform,platform-split"
GOALS_TARGETS = "relay,litellm,platform,platform-split"
GUARD_TARGETS = "relay,platform"


def _targets(text: str) -> list[Target]:
    try:
        return [Target(name) for name in text.split(",")]
    except ValueError as error:
        known = ", ".join(Target)
        raise argparse.ArgumentTypeError(f"{error}; known: {known}") from error


def _options() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument(
        "command", choices=["run", "goals", "guard", "list"], nargs="?", default="run"
    )
    arguments.add_argument("--scenario", action="append", default=[], help="may be repeated")
    arguments.add_argument("--targets", type=_targets, help=f"by default {DEFAULT_TARGETS}")
    arguments.add_argument("--repeats", type=int, help=f"{REPEATS}, or {QUICK_REPEATS} if quick")
    arguments.add_argument("--scale", type=float, default=1.0, help="streams of s500, 0.01 to 1")
    arguments.add_argument("--quick", action="store_true", help="short, for a first look")
    arguments.add_argument(
        "--record",
        action=argparse.BooleanOptionalAction,
        help="append to RESULTS.md (by default unless quick)",
    )
    arguments.add_argument("--output", type=Path, default=HERE / "results", help="for the JSON")
    return arguments.parse_args()


def _choice(options: argparse.Namespace) -> Choice:
    repeats = QUICK_REPEATS if options.quick else REPEATS
    figures, targets = options.scenario, DEFAULT_TARGETS
    if options.command == "goals":
        figures, targets = options.scenario or goals.SCENARIOS, GOALS_TARGETS
        repeats = GOALS_REPEATS
    elif options.command == "guard":
        figures, targets = options.scenario or goals.GUARD_SCENARIOS, GUARD_TARGETS
    return Choice(
        figures=figures,
        targets=options.targets or _targets(targets),
        repeats=options.repeats or repeats,
        quick=options.quick,
        scale=min(1.0, max(0.01, options.scale)),
        idle_of_all=options.command == "goals",
    )


def _judged(command: str, report: reports.Report) -> list[goals.Judged]:
    if command == "guard":
        return goals.judged(report.measurements, goals.GUARDED, Target.RELAY)
    return goals.judged(report.measurements) if command == "goals" else []


def main() -> int:
    """Return the exit code: 0 fine, 1 answers were wrong or missing or a guarded goal is missed,
    2 could not run.
    """
    options = _options()
    choice = _choice(options)
    known = about(choice)
    if options.command == "list":
        for name, text in known.items():
            sys.stdout.write(f"{name:14} {text}\n")
        return 0
    unknown = sorted(set(options.scenario) - set(known))
    if unknown:
        sys.stderr.write(f"unknown scenario {', '.join(unknown)}; known: {', '.join(known)}\n")
        return 2
    try:
        report = run(choice)
    except ProcessError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    judged = _judged(options.command, report)
    end = goals.table(judged) if judged else ""
    path = reports.write(report, options.output)
    sys.stdout.write(reports.markdown(report) + f"\n{end}\nwritten to {path}\n")
    if options.record if options.record is not None else not options.quick:
        reports.append(report, HERE / "RESULTS.md", end)
    missed = options.command == "guard" and any(
        one.is_met is False for one in judged if one.goal.target is Target.PLATFORM
    )
    return 1 if missed or any(item.errors for item in report.measurements) else 0


if __name__ == "__main__":
    sys.exit(main())
