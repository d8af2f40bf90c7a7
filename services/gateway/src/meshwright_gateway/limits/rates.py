"""A rate, by the generic cell rate algorithm.

GCRA (ITU-T I.371, in its form of "virtual scheduling"; for web APIs see Brandur Leach, "Rate
Limiting, Cells, and GCRA"): one number per key says how far ahead of the clock its requests are.
Each request adds its interval; it is let in while the sum stays within the tolerance. That is a
token bucket of `burst` tokens, refilled one by one: 20 a minute lets 20 in at once, and then one
every 3 s. Nothing is remembered but that number, which is why several rates can be looked at and
charged in one step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` requests at once, and then one each `interval_us`. `limit` is what clients are told:
    requests of `period_seconds`.
    """

    name: str
    limit: int
    period_seconds: int
    burst: int
    interval_us: float

    @classmethod
    def of(cls, name: str, limit: int, period_seconds: int, burst: int = 0) -> Rate:
        """Return the rate of `limit` requests a period; without `burst`, all of them at once."""
        return cls(
            name, limit, period_seconds, burst or limit, period_seconds * MICROSECONDS / limit
        )

    @property
    def tolerance_us(self) -> float:
        """How far ahead of the clock a key may be."""
        return self.burst * self.interval_us

    def share(self, replicas: int) -> Rate:
        """Return one of so many equal parts; each lets at least one request in at a time."""
        if replicas == 1:
            return self
        return replace(
            self,
            burst=max(self.burst // replicas, 1),
            interval_us=self.interval_us * replicas,
        )

    def room(self, level_us: float) -> int:
        """Return how many requests may come now for a key that is so far ahead."""
        # The small part stands for what was lost by counting whole microseconds.
        return max(int((self.tolerance_us - level_us) / self.interval_us + 1e-6), 0)

    def wait_seconds(self, level_us: float) -> float:
        """Return the time until the next request may come; 0: now."""
        return max(level_us + self.interval_us - self.tolerance_us, 0.0) / MICROSECONDS
