"""How one model of one deployment does: what its calls say, and whether it rests."""

from __future__ import annotations

from typing import Final, Protocol

from meshwright_common.clock import Clock
from meshwright_common.errors import ResourceExhausted, ServiceError
from meshwright_model_router.domain.health_values import (
    BreakerState,
    LastFailure,
    ModelKey,
    Numbers,
    Rest,
)
from meshwright_model_router.domain.rolling import Minute, PeakEwma
from meshwright_model_router.domain.routing import CoolDown

LEAST_CALLS: Final = 20
"""Calls of a minute that a share is worth judging by."""
FULL_SECONDS: Final = 0.25
"""How long a deployment that has reached its limits is passed over without asking."""


class Board(Protocol):
    """Who is told what a call decided."""

    clock: Clock

    def open(self, one: ModelHealth, reason: str) -> None:
        """Let it rest after failures."""
        ...

    def pause(self, one: ModelHealth, seconds: float, reason: str) -> None:
        """Let it rest as its provider asked."""
        ...

    def close(self, one: ModelHealth) -> None:
        """Let calls through again: a trial succeeded."""
        ...


class ModelHealth:
    """One model of one deployment. Its counters are moved in place: this is every call's path."""

    __slots__ = (
        "_board",
        "_consecutive",
        "_minute",
        "_own_slowness",
        "cool_down",
        "full_until",
        "in_flight",
        "is_well",
        "key",
        "last_failure",
        "others",
        "rest",
        "trial_until",
        "trying",
        "wanted",
    )

    def __init__(self, key: ModelKey, cool_down: CoolDown, board: Board) -> None:
        self.key = key
        self.cool_down = cool_down
        self.in_flight = 0
        self.is_well = True
        """What it was asked last, it answered."""
        self.others = Numbers()
        self.rest: Rest | None = None
        self.trial_until = 0.0
        """Until when this replica may try a broken deployment; 0: it may not."""
        self.trying = False
        self.full_until = 0.0
        """Until when nobody need ask whether its limits have room."""
        self.wanted = False
        self.last_failure: LastFailure | None = None
        self._board = board
        self._minute = Minute()
        self._own_slowness = PeakEwma()
        self._consecutive = 0

    @property
    def deployment(self) -> str:
        """Its name."""
        return self.key[1]

    def rests_until(self, now: float) -> float | None:
        """Return the moment before which no call goes here, or None when one may.

        For a broken deployment whose rest is over that is `now` itself, until a trial is granted.
        """
        rest = self.rest
        if rest is None:
            return None
        if now < rest.until:
            return rest.until
        if not rest.broken:
            self.rest = None
            return None
        if self.trial_until > now and not self.trying:
            return None
        return now

    def want(self) -> None:
        """Note that a call would have tried it: somebody should ask for the trial."""
        self.wanted = not self.trying

    def state(self, now: float) -> BreakerState:
        """Return the breaker's state."""
        rest = self.rest
        if rest is None or not rest.broken:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < rest.until else BreakerState.HALF_OPEN

    def busy(self) -> int:
        """Return the calls in flight: here exactly, elsewhere as reported."""
        return self.in_flight + self.others.in_flight

    def slowness(self, now: float) -> float:
        """Return how long a first token takes lately, in seconds; 0: unknown."""
        return self._own_slowness.at(now) or self.others.slowness

    def own_numbers(self, now: float) -> Numbers:
        """Return what this replica counted."""
        calls, failures = self._minute.counts(now)
        return Numbers(
            self.in_flight,
            calls,
            failures,
            self._own_slowness.at(now),
            self._minute.first_tokens(now),
        )

    def note_full(self, now: float, retry_after_seconds: float | None) -> None:
        """Its limits have no room now; ask again soon, whatever the wait may be."""
        self.full_until = now + min(retry_after_seconds or FULL_SECONDS, FULL_SECONDS)

    # --- what became of a call ------------------------------------------------------------------

    def begin(self, now: float) -> bool:
        """A request is sent; return whether it is the trial of a broken deployment.

        Exactly one of the following comes after it, and is told the same as `trial`.
        """
        self.in_flight += 1
        if self.rest is None or self.trying or self.trial_until <= now:
            return False
        self.trying = True
        return True

    def spoke(self, now: float, seconds: float, *, trial: bool) -> None:
        """It began to answer after `seconds`, which is what a trial is made for."""
        self._own_slowness.observe(now, seconds)
        if trial:
            self._board.close(self)

    def succeeded(self, now: float, first_token_seconds: float | None, *, trial: bool) -> None:
        """It was answered; `first_token_seconds` None: there was no output."""
        self.in_flight -= 1
        self.is_well = True
        self._consecutive = 0
        self._minute.add(now, failed=False, first_token_seconds=first_token_seconds)
        if trial:
            self._board.close(self)

    def forgotten(self, *, trial: bool) -> None:
        """It ended in a way that says nothing of the deployment: it was cancelled, or was wrong."""
        self.in_flight -= 1
        if trial:
            self.trying = False

    def failed(self, now: float, error: ServiceError, *, trial: bool, counts: bool) -> None:
        """It failed. `counts` False: a failure of the same call was counted here already."""
        self.in_flight -= 1
        if trial:
            self.trying = False
        self.is_well = False
        self.last_failure = LastFailure(error.reason, error.message, self._board.clock.now())
        if isinstance(error, ResourceExhausted):
            if error.retry_after_seconds:
                self._board.pause(self, error.retry_after_seconds, error.reason)
            return
        if counts:
            self._consecutive += 1
            self._minute.add(now, failed=True)
        if self.rest is not None and self.rest.broken:
            if trial:
                self._board.open(self, error.reason)
            return
        if counts and self._should_open(now):
            self._board.open(self, error.reason)

    def _should_open(self, now: float) -> bool:
        if self._consecutive >= self.cool_down.consecutive_failures:
            return True
        calls, failures = self._minute.counts(now)
        calls, failures = calls + self.others.calls, failures + self.others.failures
        return calls >= LEAST_CALLS and failures >= calls * self.cool_down.error_rate

    def begin_anew(self) -> None:
        """Forget the failures: the breaker closed."""
        self.rest = None
        self.trial_until = 0.0
        self.trying = self.wanted = False
        self._consecutive = 0
        self._minute.clear()
        self.others = Numbers(in_flight=self.others.in_flight, slowness=self.others.slowness)
