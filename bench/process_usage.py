"""CPU seconds and memory of a whole process tree, from /proc."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_KIBIBYTE = 1024
ENGINES = ("postgres", "valkey-server")


@dataclass(frozen=True, slots=True)
class _Stat:
    """What /proc/PID/stat says. CPU counts the children that were waited for."""

    pid: int
    name: str
    parent: int
    cpu_seconds: float


def parse_stat(text: str) -> _Stat:
    """Read the line of /proc/PID/stat; a name may hold blanks and brackets."""
    pid, _, rest = text.partition(" (")
    name, _, numbers = rest.rpartition(") ")
    values = numbers.split()
    ticks = sum(int(value) for value in values[11:15])
    return _Stat(int(pid), name, int(values[1]), ticks / _TICKS_PER_SECOND)


def parse_pss(text: str) -> int:
    """Return the proportional set size in bytes from /proc/PID/smaps_rollup.

    Raises: ValueError when the line is missing.
    """
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * _KIBIBYTE
    raise ValueError("no Pss line")


def _all() -> Iterator[_Stat]:
    for path in PROC.iterdir():
        if path.name.isdigit():
            try:
                yield parse_stat((path / "stat").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended while we looked


def tree(root: int) -> list[_Stat]:
    """Return the process and all its living descendants, the root first.

    A descendant whose parent ended belongs to another process and is not found any more.
    """
    children: dict[int, list[_Stat]] = {}
    found: list[_Stat] = []
    for stat in _all():
        children.setdefault(stat.parent, []).append(stat)
        if stat.pid == root:
            found.append(stat)
    for stat in found:  # grows while it is walked
        found.extend(children.get(stat.pid, ()))
    return found


def cpu_seconds(root: int) -> float:
    """Return the CPU time, user and system, that the tree has used since it started."""
    return sum(stat.cpu_seconds for stat in tree(root))


@dataclass(frozen=True, slots=True)
class Memory:
    """Proportional set size of a tree. Shared pages are counted once in sum."""

    pss_bytes: int
    processes: int
    by_name: dict[str, int]
    """Bytes by the name of the program."""

    @property
    def services_bytes(self) -> int:
        """Bytes of all but the engines: what the platform's own code runs in."""
        return self.pss_bytes - sum(self.by_name.get(name, 0) for name in ENGINES)


def memory(root: int) -> Memory:
    """Measure the memory of a tree now."""
    by_name: Counter[str] = Counter()
    count = 0
    for stat in tree(root):
        try:
            by_name[stat.name] += parse_pss((PROC / str(stat.pid) / "smaps_rollup").read_text())
            count += 1
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended while we looked
    return Memory(sum(by_name.values()), count, dict(by_name))
