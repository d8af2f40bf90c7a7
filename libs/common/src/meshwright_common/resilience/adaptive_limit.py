"""How many pieces of work a process can have in hand before they only delay each other.

    limit = AdaptiveLimit()
    limit.sample(delay_seconds)          # now and then: how late this process is
    limit.update(in_use=17)              # every `UPDATE_SECONDS`
    if in_use < limit.value: ...

The update is that of Netflix' concurrency-limits (Gradient2: a gradient between 0.5 and 1, growth
by the square root, none while the limit is not used), the samples are taken as Envoy's adaptive
concurrency filter takes them (the median of 100 ms). What is sampled is neither's: not how long
answers take, which here is mostly up to a model elsewhere, but how long what is ready to run waits
for its turn in this process. So there is no smallest latency to be found by holding requests back,
and a slow provider is no overload. See docs/adr/0021.
"""

from __future__ import annotations

import math
from statistics import median
from typing import Final

LEAST: Final = 128
"""So many at once delay each other little, and are no surge: Envoy and reliability.md D2 begin at 3
and 8, of which each is a thread or a connection elsewhere."""
MOST: Final = 1000
TARGET_SECONDS: Final = 0.02
"""A delay that is good enough. An answer takes some ten turns, a refusal two."""
UPDATE_SECONDS: Final = 0.1
_SHARPEST: Final = 0.5
"""The most that one update takes away, as a share."""


class AdaptiveLimit:
    """The limit, from `least` to `most`; it begins with the most."""

    def __init__(
        self,
        *,
        least: int = LEAST,
        most: int = MOST,
        target_seconds: float = TARGET_SECONDS,
    ) -> None:
        self._least = least
        self._most = most
        self._target_seconds = target_seconds
        self._limit = float(most)
        self._samples: list[float] = []
        self.value = most
        self.is_overloaded = False
        """Whether the last update found more delay than is good."""

    def sample(self, delay_seconds: float) -> None:
        """Take note of how long something that was ready has waited for its turn."""
        self._samples.append(delay_seconds)

    def update(self, in_use: int) -> None:
        """Draw the conclusion from the samples since the last update; without any, none."""
        if not self._samples:
            return
        delay = median(self._samples)
        self._samples.clear()
        self.is_overloaded = delay > self._target_seconds
        if self.is_overloaded:
            # What counts is what was in use: a limit far above it has not caused the delay.
            reached = min(self._limit, max(in_use, self._least) * 2.0)
            self._limit = reached * max(self._target_seconds / delay, _SHARPEST)
        elif in_use * 2 >= self._limit:
            self._limit += math.sqrt(self._limit)
        self._limit = min(max(self._limit, self._least), self._most)
        self.value = int(self._limit)
