"""How much may be repeated when everything fails: a share of what was asked for in the first place.

    budget = budgets.of("model-router")
    budget.record_call()                 # every call, once, with its first attempt
    ...
    if budget.try_spend():               # before every further attempt
        ...

The budget of Finagle (`RetryBudget`: calls deposit, retries withdraw, a window forgets both) with
the share per client of the SRE book ("Handling overload"): in any window, attempts are at most 1.1
times the calls. Where calls are rare, one a second may be repeated all the same. Envoy's floor is
three retries at the same time; counted so, retries that fail at once would be without number.
"""

from __future__ import annotations

from typing import Final

from meshwright_common.clock import Clock, SystemClock

SHARE: Final = 0.1
"""Of the calls of a window, how many may be repeated."""
LEAST: Final = 10
"""Repetitions of a window that need no further calls to stand for them."""
WINDOW_SECONDS: Final = 10.0
_SLOTS: Final = 10


class RetryBudget:
    """Counts the calls to one upstream and what was repeated of them. One per process and upstream:
    whoever repeats calls to it takes from this one.
    """

    __slots__ = (
        "_call_slots",
        "_calls",
        "_clock",
        "_least",
        "_retries",
        "_retry_slots",
        "_share",
        "_slot",
        "_slot_ends_at",
        "_slot_seconds",
    )

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        share: float = SHARE,
        least: int = LEAST,
        window_seconds: float = WINDOW_SECONDS,
    ) -> None:
        self._clock = clock or SystemClock()
        self._share = share
        self._least = least
        self._slot_seconds = window_seconds / _SLOTS
        self._call_slots = [0] * _SLOTS
        self._retry_slots = [0] * _SLOTS
        self._calls = 0
        self._retries = 0
        self._slot = 0
        self._slot_ends_at = self._clock.monotonic() + self._slot_seconds

    def record_call(self) -> None:
        """A call is made, for the first time."""
        if self._clock.monotonic() >= self._slot_ends_at:
            self._forget()
        self._call_slots[self._slot] += 1
        self._calls += 1

    def try_spend(self) -> bool:
        """Return whether a call may be repeated now; if so, that is counted."""
        if self._clock.monotonic() >= self._slot_ends_at:
            self._forget()
        if self._retries + 1 > max(self._calls * self._share, self._least):
            return False
        self._retry_slots[self._slot] += 1
        self._retries += 1
        return True

    def _forget(self) -> None:
        """Go on to the slot of now; those between were empty."""
        late = self._clock.monotonic() - self._slot_ends_at
        steps = int(late / self._slot_seconds) + 1
        self._slot_ends_at += steps * self._slot_seconds
        for _ in range(min(steps, _SLOTS)):
            self._slot = (self._slot + 1) % _SLOTS
            self._calls -= self._call_slots[self._slot]
            self._retries -= self._retry_slots[self._slot]
            self._call_slots[self._slot] = self._retry_slots[self._slot] = 0


class RetryBudgets:
    """The budgets of one process, by upstream. All its layers share them."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._budgets: dict[str, RetryBudget] = {}

    def of(self, upstream: str) -> RetryBudget:
        """Return the budget for calls to `upstream`; always the same one.

        Calls to something healthy must not pay for the repetitions of calls to something that
        fails: hence one for each. `upstream` is one of few names, as a peer's or a provider's.
        """
        budget = self._budgets.get(upstream)
        if budget is None:
            budget = self._budgets[upstream] = RetryBudget(self._clock)
        return budget
