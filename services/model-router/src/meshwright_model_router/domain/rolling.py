"""Numbers about the last minute of calls, kept in a few slots: no call is remembered by itself."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

WINDOW_SECONDS: Final = 60.0
SLOTS: Final = 6
SLOT_SECONDS: Final = WINDOW_SECONDS / SLOTS
DECAY_SECONDS: Final = 10.0
"""How long a slow answer is held against a deployment; Finagle's default."""

BOUNDS: Final = (
    *(0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7),
    *(1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 60.0),
)
"""Seconds until the first token: upper bounds of the buckets; one more takes what is above."""


class _Slot:
    __slots__ = ("calls", "failures", "first_tokens", "number")

    def __init__(self, number: int = -1) -> None:
        self.number = number
        self.calls = 0
        self.failures = 0
        self.first_tokens = [0] * (len(BOUNDS) + 1)


class Minute:
    """Calls that ended within the last minute, to a sixth of it. Times are monotonic seconds."""

    __slots__ = ("_slots",)

    def __init__(self) -> None:
        self._slots = [_Slot() for _ in range(SLOTS)]

    def add(self, now: float, *, failed: bool, first_token_seconds: float | None = None) -> None:
        """Count a call that ended."""
        number = int(now / SLOT_SECONDS)
        slot = self._slots[number % SLOTS]
        if slot.number != number:
            slot = self._slots[number % SLOTS] = _Slot(number)
        slot.calls += 1
        slot.failures += failed
        if first_token_seconds is not None:
            slot.first_tokens[bisect_left(BOUNDS, first_token_seconds)] += 1

    def counts(self, now: float) -> tuple[int, int]:
        """Return calls and failures of the last minute."""
        calls = failures = 0
        for slot in self._current(now):
            calls += slot.calls
            failures += slot.failures
        return calls, failures

    def first_tokens(self, now: float) -> list[int]:
        """Return how many first tokens fell into each bucket of BOUNDS in the last minute."""
        return added([slot.first_tokens for slot in self._current(now)])

    def clear(self) -> None:
        """Forget everything."""
        self._slots = [_Slot() for _ in range(SLOTS)]

    def _current(self, now: float) -> list[_Slot]:
        oldest = int(now / SLOT_SECONDS) - SLOTS + 1
        return [slot for slot in self._slots if slot.number >= oldest]


def added(buckets: Iterable[Iterable[int]]) -> list[int]:
    """Return the sums, bucket by bucket."""
    total = [0] * (len(BOUNDS) + 1)
    for one in buckets:
        for index, count in enumerate(one):
            total[index] += count
    return total


def filled(counts: Mapping[int, int]) -> list[int]:
    """Return all buckets, of which only some are given; those that there are not are left out."""
    return [counts.get(index, 0) for index in range(len(BOUNDS) + 1)]


def quantile(buckets: Sequence[int], share: float) -> float | None:
    """Return the upper bound in seconds below which `share` of the counted lie; None: no counts."""
    total = sum(buckets)
    if total == 0:
        return None
    wanted, seen = math.ceil(total * share), 0
    for index, count in enumerate(buckets):
        seen += count
        if seen >= wanted:
            return BOUNDS[min(index, len(BOUNDS) - 1)]
    return BOUNDS[-1]


class PeakEwma:
    """How slow something is lately: up at once with a slow answer, down again over seconds.

    The estimate of Finagle's peak EWMA balancer (`com.twitter.finagle.loadbalancer.p2c.PeakEwma`):
    an exponentially weighted average whose weight is the age of the last answer, and which takes a
    higher value as it is. Unasked, it falls to zero, so that what was slow is tried again.
    """

    __slots__ = ("_at", "_seconds")

    def __init__(self) -> None:
        self._seconds = 0.0
        self._at = 0.0

    def observe(self, now: float, seconds: float) -> None:
        """Take an answer that took `seconds`."""
        if seconds >= self._seconds:
            self._seconds = seconds
        else:
            weight = math.exp(-max(now - self._at, 0.0) / DECAY_SECONDS)
            self._seconds = self._seconds * weight + seconds * (1 - weight)
        self._at = now

    def at(self, now: float) -> float:
        """Return the estimate in seconds; 0: nothing is known, or it is long ago."""
        if not self._seconds:
            return 0.0
        return self._seconds * math.exp(-max(now - self._at, 0.0) / DECAY_SECONDS)
