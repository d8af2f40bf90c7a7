"""Whether files changed, by what the file system says of them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

Stamp: TypeAlias = tuple[tuple[int, int, int, int] | None, ...]


def stamp_of(path: Path | None, others: Sequence[Path]) -> Stamp:
    """Return what differs when one of the files was written, replaced or linked elsewhere."""
    return tuple(_stamp(one) for one in (path, *others) if one is not None)


def _stamp(path: Path) -> tuple[int, int, int, int] | None:
    try:
        # Through links: Kubernetes swaps a link to a folder when it changes a file.
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
