"""Compare squawk's findings (JSON on standard input) with what is excused, and say what is not.

    migrations_excused.py EXCUSED MIGRATION…

squawk does not look into DO blocks: a migration that has one is a finding, too.

EXCUSED has a line for each file and what it may do: `schema/NNNN_name.sql rule,rule: reason`.
An excuse that excuses nothing is an error too: it would excuse the next one by accident.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

BLOCK: Final = re.compile(r"^DO\b", re.IGNORECASE)
LINE: Final = re.compile(
    r"(?P<file>[a-z_]+/\d{4}_[a-z0-9_]+\.sql) (?P<rules>[a-z,-]+): (?P<reason>\S.{9,})"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a statement of a migration does that may hold up or break others."""

    file: str
    line: int
    rule: str
    message: str


def main(excused_file: str, *migrations: str) -> int:
    """Return the exit code."""
    excused = read_excuses(Path(excused_file).read_text("utf-8").splitlines())
    findings = [finding_of(one) for one in json.load(sys.stdin)]
    findings += [block for name in migrations for block in blocks_of(Path(name))]
    unused = set(excused) - {(one.file, one.rule) for one in findings}
    problems = [
        f"{one.file}:{one.line}: {one.rule}: {one.message}"
        for one in findings
        if (one.file, one.rule) not in excused
    ]
    problems += [f"{file} {rule}: excused, and does not do it" for file, rule in sorted(unused)]
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    if problems:
        sys.stderr.write("docs/upgrade.md says how to write it instead, or how to excuse it.\n")
    return bool(problems)


def read_excuses(lines: Iterable[str]) -> Mapping[tuple[str, str], str]:
    """Return the reasons by file and rule. Raises: SystemExit for a line that is none."""
    excused: dict[tuple[str, str], str] = {}
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        found = LINE.fullmatch(line.strip())
        if found is None:
            raise SystemExit(f"not `schema/NNNN_name.sql rule,rule: reason`: {line}")
        for rule in found["rules"].split(","):
            excused[found["file"], rule] = found["reason"]
    return excused


def finding_of(told: Mapping[str, Any]) -> Finding:
    """Return one of squawk's findings."""
    # squawk counts lines from 0.
    return Finding(
        name_of(Path(told["file"])), told["line"] + 1, told["rule_name"], told["message"]
    )


def blocks_of(path: Path) -> list[Finding]:
    """Return the DO blocks of a migration."""
    lines = path.read_text("utf-8").splitlines()
    return [
        Finding(name_of(path), number, "opaque-block", "What a DO block executes is not checked.")
        for number, line in enumerate(lines, start=1)
        if BLOCK.match(line)
    ]


def name_of(path: Path) -> str:
    """Return a migration's name with its schema."""
    package = path.parent.parent.name
    schema = "events" if package == "meshwright_common" else package.removeprefix("meshwright_")
    return f"{schema}/{path.name}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
