"""Which instances of a peer are left out for a while because their calls keep failing.

The rules of outlier ejection as Envoy and gRPC (gRFC A50) have them, with the numbers of
reliability.md D2: consecutive failures, each ejection in a row longer, never more than half.
"""

import random
from collections.abc import Collection
from typing import Final

from meshwright_common.clock import Clock

CONSECUTIVE_FAILURES: Final = 5
BASE_SECONDS: Final = 30.0
LONGEST_SECONDS: Final = 300.0
JITTER_SECONDS: Final = 5.0
FORGIVE_SECONDS: Final = 10.0
"""For this long without an ejection, the next one is one step shorter."""
REST_SECONDS: Final = 1.0
"""An instance that has just failed is asked last for so long: the repeated call goes elsewhere."""


class Outlier:
    """What the calls to one instance tell about it."""

    __slots__ = (
        "_clock",
        "_ejected_until",
        "_failures",
        "_steps",
        "rests_until",
    )

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._steps = 0
        self._ejected_until = 0.0
        self.rests_until = 0.0

    @property
    def is_ejected(self) -> bool:
        """Whether it is left out now."""
        return self._ejected_until > 0 and self._clock.monotonic() < self._ejected_until

    @property
    def rests(self) -> bool:
        """Whether it has failed a moment ago."""
        return self.rests_until > 0 and self._clock.monotonic() < self.rests_until

    def succeeded(self) -> None:
        """A call was answered, whatever the answer was."""
        self._failures = 0
        self.rests_until = 0.0

    def failed(self, others: "Collection[Outlier]") -> bool:
        """A call found it unavailable. Returns whether that ejects it from among `others`.

        `others` are all instances of the peer, this one included.
        """
        now = self._clock.monotonic()
        self.rests_until = now + REST_SECONDS
        self._failures += 1
        if self._failures < CONSECUTIVE_FAILURES or self.is_ejected:
            return False
        ejected = sum(other.is_ejected for other in others)
        if ejected + 1 > len(others) // 2:
            return False
        self._forgive(now)
        self._steps += 1
        seconds = min(BASE_SECONDS * self._steps, LONGEST_SECONDS)
        jitter = random.uniform(0, JITTER_SECONDS)  # noqa: S311 -- jitter, not a secret
        self._ejected_until = now + seconds + jitter
        self._failures = 0
        return True

    def reconnected(self) -> None:
        """Its connection was made anew: behind the address is a new process, or a new network."""
        self._failures = 0
        self._ejected_until = self.rests_until = 0.0

    def _forgive(self, now: float) -> None:
        if self._ejected_until:
            good = max(now - self._ejected_until, 0.0)
            self._steps = max(self._steps - int(good / FORGIVE_SECONDS), 0)
