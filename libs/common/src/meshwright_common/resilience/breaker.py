"""A breaker: stop asking what keeps failing, and try again carefully."""

from collections import deque
from dataclasses import dataclass

from meshwright_common.clock import Clock
from meshwright_common.errors import Unavailable


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens and for how long. Times are seconds."""

    failure_share: float = 0.5
    least_calls: int = 20
    window_seconds: float = 10.0
    consecutive_failures: int = 5
    open_seconds: float = 5.0
    longest_open_seconds: float = 60.0
    half_open_calls: int = 3


class Breaker:
    """Counts the calls to one thing. Closed: all pass. Open: none. Half open: a few try.

    Opens when, of at least `least_calls` in the window, `failure_share` failed, or after
    `consecutive_failures`. Each opening in a row lasts twice as long. What counts as a failure
    is the caller's choice; cancellations and rate limits should not.
    """

    def __init__(self, name: str, clock: Clock, policy: BreakerPolicy | None = None) -> None:
        self._name = name
        self._clock = clock
        self._policy = policy or BreakerPolicy()
        self._calls: deque[tuple[float, bool]] = deque()
        self._failures = 0
        self._consecutive = 0
        self._openings = 0
        self._closed_again_at: float | None = None
        self._trials = 0
        self._trial_successes = 0

    @property
    def is_open(self) -> bool:
        """Whether calls are refused now."""
        return self._closed_again_at is not None and self._clock.monotonic() < self._closed_again_at

    def check(self) -> None:
        """Let one call pass. Raises: Unavailable with `retry_after_seconds` while open.

        Every call let through must be followed by `record_success`, `record_failure` or `forget`.
        """
        if self._closed_again_at is None:
            return
        left = self._closed_again_at - self._clock.monotonic()
        if left > 0:
            raise self._refusal(left)
        # Half open: first one, then more while they succeed.
        if self._trials > min(self._trial_successes, self._policy.half_open_calls - 1):
            raise self._refusal(self._policy.open_seconds)
        self._trials += 1

    def record_success(self) -> None:
        """The call that was let through succeeded."""
        self._consecutive = 0
        if self._closed_again_at is None:
            if self._calls:
                self._record(failed=False)
            return
        self._trials = max(self._trials - 1, 0)
        self._trial_successes += 1
        if self._trial_successes >= self._policy.half_open_calls:
            self._close()

    def record_failure(self) -> None:
        """The call that was let through failed in a way that speaks against the thing."""
        self._consecutive += 1
        if self._closed_again_at is not None:
            if not self.is_open:
                self._open()
            return
        self._record(failed=True)
        share = self._failures / len(self._calls)
        if self._consecutive >= self._policy.consecutive_failures or (
            len(self._calls) >= self._policy.least_calls and share >= self._policy.failure_share
        ):
            self._open()

    def forget(self) -> None:
        """The call that was let through said nothing about the thing: it was cancelled."""
        self._trials = max(self._trials - 1, 0)

    def try_now(self) -> None:
        """What is guarded was replaced or came back: let calls try it now, not after the pause."""
        if self._closed_again_at is not None:
            self._closed_again_at = self._clock.monotonic()
            self._openings = 0
            self._trials = 0
            self._trial_successes = 0

    def _refusal(self, seconds: float) -> Unavailable:
        return Unavailable(
            f"{self._name} failed repeatedly and is given a pause",
            retry_after_seconds=seconds,
            upstream=self._name,
        )

    def _record(self, *, failed: bool) -> None:
        now = self._clock.monotonic()
        self._calls.append((now, failed))
        self._failures += failed
        while self._calls[0][0] < now - self._policy.window_seconds:
            self._failures -= self._calls.popleft()[1]
        if self._failures == 0:
            # Nothing to judge: successes alone need no memory.
            self._calls.clear()

    def _open(self) -> None:
        seconds = min(
            self._policy.open_seconds * 2**self._openings, self._policy.longest_open_seconds
        )
        self._openings += 1
        self._closed_again_at = self._clock.monotonic() + seconds
        self._trials = 0
        self._trial_successes = 0

    def _close(self) -> None:
        self._closed_again_at = None
        self._openings = 0
        self._consecutive = 0
        self._calls.clear()
        self._failures = 0
