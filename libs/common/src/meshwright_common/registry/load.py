"""How loaded a process or an agent is, and the weight that others should give it."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import psutil

from meshwright_common.registry.cgroup import Cgroup

WINDOW_SECONDS: Final = 60.0
"""Errors older than this no longer speak against a process."""
LEAST_WEIGHT: Final = 1
MOST_WEIGHT: Final = 100

_SLICE_SECONDS: Final = 5.0
"""Calls are counted by slices of time, so that a busy minute costs a dozen numbers."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a weight is made of. Shares are in [0, 1]; `pending` is work that has begun or waits."""

    cpu_free: float
    memory_free: float
    pending: int
    error_rate: float

    @property
    def weight(self) -> int:
        """The weight for this load."""
        return weight(self.cpu_free, self.memory_free, self.pending, self.error_rate)


def weight(cpu_free: float, memory_free: float, pending: int, error_rate: float) -> int:
    """Return 50 + 20·cpu_free + 15·memory_free - 5·pending - 100·error_rate, from 1 to 100.

    Never 0: somebody with nothing but loaded peers still has to choose one. Shares outside
    [0, 1], and what is not a number, count as the worse end.
    """
    score = (
        50.0
        + 20.0 * _share(cpu_free, worst=0.0)
        + 15.0 * _share(memory_free, worst=0.0)
        - 5.0 * max(pending, 0)
        - 100.0 * _share(error_rate, worst=1.0)
    )
    return max(LEAST_WEIGHT, min(MOST_WEIGHT, round(score)))


def _share(value: float, *, worst: float) -> float:
    return min(max(value, 0.0), 1.0) if value == value else worst  # noqa: PLR0124 -- NaN


class CallTally:
    """Counts calls: how many run, and which share of the last minute's ended in an error.

    A share of fewer than `least_calls` says little, so it counts as if that many had ended.
    """

    def __init__(
        self, *, least_calls: int = 20, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.running = 0
        self._least_calls = least_calls
        self._monotonic = monotonic
        self._slices: deque[_Slice] = deque()

    def began(self) -> None:
        """A call began."""
        self.running += 1

    def ended(self, *, failed: bool) -> None:
        """A call that began has ended; `failed` in a way that speaks against its server."""
        self.running -= 1
        now = self._monotonic()
        if not self._slices or now - self._slices[-1].began >= _SLICE_SECONDS:
            self._forget(now)
            self._slices.append(_Slice(now))
        current = self._slices[-1]
        current.calls += 1
        current.errors += failed

    def error_rate(self) -> float:
        """Return the share of errors among the calls that ended in the last minute."""
        self._forget(self._monotonic())
        calls = sum(one.calls for one in self._slices)
        errors = sum(one.errors for one in self._slices)
        return errors / max(calls, self._least_calls)

    def _forget(self, now: float) -> None:
        while self._slices and now - self._slices[0].began > WINDOW_SECONDS:
            self._slices.popleft()


class _Slice:
    __slots__ = ("began", "calls", "errors")

    def __init__(self, began: float) -> None:
        self.began = began
        self.calls = 0
        self.errors = 0


class LoadMeter:
    """Measures the load of this process' machine, or of its container where that has limits.

    `pending` returns how much work there is and `error_rate` which share of it fails lately; a
    process that serves calls takes both from its `CallTally`.
    """

    def __init__(
        self,
        pending: Callable[[], int],
        error_rate: Callable[[], float],
        *,
        cgroup: Cgroup | None = None,
    ) -> None:
        self._pending = pending
        self._error_rate = error_rate
        self._cgroup = cgroup or Cgroup()
        self._cpu = psutil.cpu_times()
        self._cpu_free = 1.0
        self._looked_at = float("-inf")

    def read(self) -> Load:
        """Return the load now; of the CPU the mean since the last reading, of a second at least."""
        self._look_at_cpu()
        memory_free = self._cgroup.memory_free()
        if memory_free is None:
            memory = psutil.virtual_memory()
            memory_free = memory.available / memory.total
        return Load(self._cpu_free, memory_free, self._pending(), self._error_rate())

    def _look_at_cpu(self) -> None:
        # Between two readings that are close, the counters of the kernel (10 ms) say nothing.
        now = time.monotonic()
        if now - self._looked_at < 1.0:
            return
        self._looked_at = now
        in_container = self._cgroup.cpu_free()
        if in_container is not None:
            self._cpu_free = in_container
            return
        before, self._cpu = self._cpu, psutil.cpu_times()
        total = sum(self._cpu) - sum(before)
        if total > 0:
            idle = _idle_seconds(self._cpu) - _idle_seconds(before)
            self._cpu_free = min(max(idle / total, 0.0), 1.0)


def _idle_seconds(times: object) -> float:
    return float(getattr(times, "idle", 0.0) + getattr(times, "iowait", 0.0))
