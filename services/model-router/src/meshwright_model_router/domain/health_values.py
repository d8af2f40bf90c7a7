"""What is known of how a deployment does: numbers, rests, failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeAlias

from meshwright_model_router.domain.rolling import BOUNDS, added

ModelKey: TypeAlias = tuple[str, str, str]
"""Owner ("" the operator), deployment, and the provider's model."""


class BreakerState(StrEnum):
    """Whether calls go through: all, none, or one at a time to try."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Rest:
    """Until when (monotonic seconds) a deployment gets no calls, and why.

    `broken`: a breaker is open, and one call has to try first. Otherwise it asked for a pause.
    """

    until: float
    reason: str
    broken: bool


@dataclass(frozen=True, slots=True)
class Numbers:
    """What one or several replicas counted. `failures` of `calls` in the last minute;
    `slowness` in seconds (0: unknown); `first_tokens` by bucket of `rolling.BOUNDS`.
    """

    in_flight: int = 0
    calls: int = 0
    failures: int = 0
    slowness: float = 0.0
    first_tokens: Sequence[int] = ()

    def __add__(self, other: Numbers) -> Numbers:
        buckets = [one for one in (self.first_tokens, other.first_tokens) if one]
        return Numbers(
            self.in_flight + other.in_flight,
            self.calls + other.calls,
            self.failures + other.failures,
            max(self.slowness, other.slowness),
            added(buckets) if buckets else (),
        )


NOTHING: Final = Numbers(first_tokens=(0,) * (len(BOUNDS) + 1))


@dataclass(frozen=True, slots=True)
class LastFailure:
    """The last failure that was seen here."""

    reason: str
    message: str
    time: datetime
