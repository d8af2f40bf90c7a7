"""Lanes of work, in which order they are served, and how late a failed item is tried again."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final


class Lane(StrEnum):
    """How urgent work is: interactive, ordinary, batch."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


WEIGHTS: Final[Mapping[Lane, int]] = {Lane.HIGH: 4, Lane.NORMAL: 2, Lane.LOW: 1}
"""Of seven items taken while every lane has some, so many come from each: none starves."""

MAX_RETRIES: Final = 3
"""An item that failed so often is tried no more."""
JITTER: Final = 0.25
"""Pauses are longer than their rung by up to this share."""


class WeightedLanes:
    """Smooth weighted round robin: a lane with weight w is chosen w times in a round, spread out.

    A lane that has nothing to offer gives its turns to the others and saves none up.
    """

    def __init__(self, weights: Mapping[Lane, int] = WEIGHTS) -> None:
        self._weights = weights
        self._credit: dict[Lane, int] = dict.fromkeys(weights, 0)

    def choose(self, offering: Collection[Lane]) -> Lane:
        """Return the lane whose turn it is among those that have something, at least one."""
        for lane in self._credit:
            if lane in offering:
                self._credit[lane] += self._weights[lane]
            else:
                self._credit[lane] = 0
        chosen = max(offering, key=lambda lane: (self._credit[lane], self._weights[lane]))
        self._credit[chosen] -= sum(self._weights[lane] for lane in offering)
        return chosen

    def shares(self, waiting: Mapping[Lane, int], most: int) -> dict[Lane, int]:
        """Return how many items to take of each lane, `most` together, when so many wait."""
        left = Counter({lane: count for lane, count in waiting.items() if count > 0})
        taken: Counter[Lane] = Counter()
        for _ in range(most):
            if not left:
                break
            lane = self.choose(left)
            taken[lane] += 1
            left[lane] -= 1
            if not left[lane]:
                del left[lane]
        return dict(taken)


def retry_rung_seconds(attempt: int) -> float:
    """Return the least pause before attempt 1, 2, 3: 1, 2, 4 s. Raises: ValueError for others."""
    if not 1 <= attempt <= MAX_RETRIES:
        raise ValueError(f"there is no attempt {attempt}: 1 to {MAX_RETRIES}")
    return float(2 ** (attempt - 1))


def retry_delay_seconds(attempt: int) -> float:
    """Return the pause before this attempt: its rung, and up to a quarter of it more."""
    return retry_rung_seconds(attempt) * (1 + random.uniform(0, JITTER))  # noqa: S311 -- jitter
