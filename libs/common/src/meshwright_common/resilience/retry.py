"""How often and how late a failed thing is tried again."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import stamina

from meshwright_common.errors import ResourceExhausted, Unavailable


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with full jitter. Times are seconds; attempts count from 1."""

    attempts: int = 3
    initial_seconds: float = 0.05
    factor: float = 2.0
    maximum_seconds: float = 1.0

    def delay_seconds(self, attempt: int) -> float:
        """Return the pause after the failure of `attempt`: random from 0 to its ceiling."""
        ceiling = min(self.initial_seconds * self.factor ** (attempt - 1), self.maximum_seconds)
        return random.uniform(0, ceiling)  # noqa: S311 -- jitter, not a secret


class RetryBudget:
    """Tokens that bound retries when everything fails (gRPC's retry throttling).

    A failure costs one token, a success gives back `ratio`; repeating is allowed while more than
    half of the tokens are there. In steady failure that is next to none.
    """

    def __init__(self, *, tokens: float = 10.0, ratio: float = 0.1) -> None:
        self._maximum = tokens
        self._tokens = tokens
        self._ratio = ratio

    def record_success(self) -> None:
        """Give back a part of a token."""
        if self._tokens < self._maximum:
            self._tokens = min(self._tokens + self._ratio, self._maximum)

    def record_failure(self) -> bool:
        """Take a token. Returns whether repeating is allowed."""
        self._tokens = max(self._tokens - 1.0, 0.0)
        return self._tokens > self._maximum / 2


def transient(error: Exception) -> bool | timedelta:
    """Return whether the same call may succeed later, or how much later the callee asked for."""
    if not isinstance(error, (Unavailable, ResourceExhausted)):
        return False
    if error.retry_after_seconds is not None:
        return timedelta(seconds=error.retry_after_seconds)
    return isinstance(error, Unavailable)


def retrying(*, attempts: int, timeout_seconds: float) -> AsyncIterator[stamina.Attempt]:
    """Return the attempts of a block that is safe to repeat, paused between transient errors.

    `async for attempt in retrying(attempts=3, timeout_seconds=5): with attempt: ...`. Only for
    things outside the mesh: `PolicyChannel` repeats calls to services, and one layer is enough.
    """
    return stamina.retry_context(
        on=transient,
        attempts=attempts,
        timeout=timeout_seconds,
        wait_initial=0.05,
        wait_max=1.0,
        wait_jitter=0.05,
    ).__aiter__()
