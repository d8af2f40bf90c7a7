"""A folder in memory for a database that tests throw away, where the machine has room for it.

A test clones and drops a database of some 13 MB. On a disk, the file system's own work for that is
most of what many tests cost; in memory it is next to nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MEMORY: Final = Path("/dev/shm")  # noqa: S108 - the folder made in it has a random name
PREFIX: Final = "meshwright-tests-"
NEEDED_BYTES: Final = 4 * 1024**3
"""Free in it, for each process of tests to have a tenth to a half of a gigabyte."""
NEEDED_MEMORY_BYTES: Final = 8 * 1024**3
"""Available on the machine: what lies there takes it from everybody."""


@contextlib.contextmanager
def memory_folder(otherwise: Path) -> Iterator[Path]:
    """Give an empty folder in memory, gone afterwards, or `otherwise` where there is no room."""
    if not _has_room():
        yield otherwise
        return
    _remove_left_behind()
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix=f"{PREFIX}{os.getpid()}-") as folder:
        yield Path(folder)


def _has_room() -> bool:
    try:
        free = shutil.disk_usage(MEMORY).free
        facts = Path("/proc/meminfo").read_text("ascii")
    except OSError:
        return False
    available = re.search(r"^MemAvailable:\s+(\d+) kB$", facts, re.MULTILINE)
    if available is None or free < NEEDED_BYTES:
        return False
    return int(available[1]) * 1024 >= NEEDED_MEMORY_BYTES


def _remove_left_behind() -> None:
    """Remove what processes left that were killed: nobody else gives the memory back."""
    for folder in MEMORY.glob(f"{PREFIX}*"):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        if not Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)
