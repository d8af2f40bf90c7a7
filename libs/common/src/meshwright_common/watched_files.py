"""Files that are read again while the platform runs: when they changed.

    watched = WatchedFiles(path)
    while True:
        await watched.changed()
        read(path)

They are looked at, not subscribed to: that sees links swapped by Kubernetes, renames and network
file systems alike, and costs one `stat` a look.
"""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TypeAlias

LOOK_SECONDS: Final = 0.4
"""A change is told when two looks saw the same, so after 0.8 s: well within the 2 s in which it has
to hold everywhere."""

_Stamp: TypeAlias = tuple[int, int, int, int] | None


class WatchedFiles:
    """Some files. What they are when they are first named is known already."""

    def __init__(self, *paths: Path) -> None:
        self._known = _stamps_of(paths)

    def watch(self, *paths: Path) -> None:
        """Watch these from now on, and no others.

        A change since the last look of one that was watched before is still told: a file may be
        written anew while it is read.
        """
        self._known = {**_stamps_of(paths), **{p: s for p, s in self._known.items() if p in paths}}

    async def changed(self) -> None:
        """Return when one was written, replaced, linked elsewhere or removed, and is at rest."""
        seen = self._known
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            stamps = await asyncio.to_thread(_stamps_of, tuple(self._known))
            # Who is still writing changes it again: only what stays as it is gets told.
            at_rest, seen = stamps == seen, stamps
            if at_rest and stamps != self._known:
                self._known = stamps
                return


def _stamps_of(paths: Iterable[Path]) -> dict[Path, _Stamp]:
    return {path: _stamp_of(path) for path in paths}


def _stamp_of(path: Path) -> _Stamp:
    try:
        status = os.stat(path)  # of what a link points to
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
