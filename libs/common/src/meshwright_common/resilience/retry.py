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
