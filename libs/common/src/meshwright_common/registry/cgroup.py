"""What the container of this process may use, and uses: the files of Linux control groups."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

_UNLIMITED_BYTES: Final = 1 << 60
"""Version 1 writes "no limit" as a number near the end of 64 bits."""


class Cgroup:
    """Reads limits and use of CPU and memory, of both versions. `root` is where they are mounted.

    In a container its own group is mounted there. Where there is no limit, or no such file,
    everything is None: then the machine is the measure.
    """

    def __init__(
        self,
        root: Path = Path("/sys/fs/cgroup"),
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._monotonic = monotonic
        self._before: tuple[float, float] | None = None

    def memory_free(self) -> float | None:
        """Return the share of the memory limit that is free, in [0, 1]."""
        limit = self._number("memory.max", "memory/memory.limit_in_bytes")
        used = self._number("memory.current", "memory/memory.usage_in_bytes")
        if limit is None or used is None or not 0 < limit < _UNLIMITED_BYTES:
            return None
        # Pages of files count as used and are given back when somebody needs them.
        files = self._entry("inactive_file", "memory.stat", "memory/memory.stat") or 0.0
        return min(max(1.0 - (used - files) / limit, 0.0), 1.0)

    def cpu_free(self) -> float | None:
        """Return the share of the CPU limit that was free since the last call, in [0, 1].

        None also for the first call: there is nothing yet to compare with.
        """
        cores = self._cores()
        used = self._used_cpu_seconds()
        if cores is None or used is None:
            return None
        now = self._monotonic()
        before, self._before = self._before, (now, used)
        if before is None or now <= before[0]:
            return None
        return min(max(1.0 - (used - before[1]) / ((now - before[0]) * cores), 0.0), 1.0)

    def _cores(self) -> float | None:
        text = self._text("cpu.max")
        if text:
            quota, _, period = text.partition(" ")
            return _ratio(quota, period)
        return _ratio(self._text("cpu/cpu.cfs_quota_us"), self._text("cpu/cpu.cfs_period_us"))

    def _used_cpu_seconds(self) -> float | None:
        microseconds = self._entry("usage_usec", "cpu.stat")
        if microseconds is not None:
            return microseconds / 1e6
        nanoseconds = self._number("cpuacct/cpuacct.usage")
        return None if nanoseconds is None else nanoseconds / 1e9

    def _text(self, name: str) -> str:
        try:
            return (self._root / name).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def _number(self, *names: str) -> float | None:
        return next((float(text) for text in map(self._text, names) if text.isdecimal()), None)

    def _entry(self, key: str, *names: str) -> float | None:
        for name in names:
            for line in self._text(name).splitlines():
                found, _, value = line.partition(" ")
                if found == key and value.isdecimal():
                    return float(value)
        return None


def _ratio(quota: str, period: str) -> float | None:
    """Return cores of CPU; "max" and -1 mean no limit."""
    if not quota.isdecimal() or not period.isdecimal() or int(period) == 0:
        return None
    return int(quota) / int(period)
