"""The requests of one call: which deployment is asked first, what follows a failure, when it ends.

What is repeated takes from a retry budget of the deployment that failed, so that steady failure
never costs more than a tenth on top; going to a deployment that is well costs nothing, because that
is no load on anything that fails. A call that somebody above repeats already is not repeated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from meshwright_common.context import current, remaining_seconds
from meshwright_common.errors import DeadlineExceeded, ServiceError
from meshwright_model_router.domain.access import Grant
from meshwright_model_router.domain.choosing import Candidate, Choosing, Needs, chosen
from meshwright_model_router.domain.fallback import (
    LEAST_SECONDS,
    Remedy,
    delay_before_retry,
    remedy_for,
)
from meshwright_model_router.domain.model_health import ModelHealth
from meshwright_model_router.domain.refusals import refusal

P_co = TypeVar("P_co", covariant=True)


class RetryBudget(Protocol):
    """How much of the calls to one upstream may be repeated."""

    def record_call(self) -> None:
        """A call is made, for the first time."""
        ...

    def try_spend(self) -> bool:
        """Return whether a call may be repeated now; if so, that is counted."""
        ...


class RetryBudgets(Protocol):
    """The budgets of this process."""

    def of(self, upstream: str) -> RetryBudget:
        """Return the budget for calls to `upstream`; always the same one."""
        ...


@dataclass(frozen=True, slots=True)
class AttemptRules:
    """What all calls of a process share. `grant_wanted`: see `HealthSharing.grant_wanted`."""

    choosing: Choosing
    retry_budgets: RetryBudgets
    grant_wanted: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Next(Generic[P_co]):
    """Who is asked next, and after what pause in seconds."""

    candidate: Candidate[P_co]
    delay_seconds: float


class Attempts(Generic[P_co]):
    """The course of one call. `number`: the requests that were sent for it."""

    def __init__(self, rules: AttemptRules, grant: Grant[P_co], needs: Needs) -> None:
        self._rules = rules
        self._choosing = rules.choosing
        self._grants = [grant]
        self._fallbacks = list(grant.resolved.policy.fallback_models)
        self.policy = grant.resolved.policy
        self.number = 0
        self._needs = needs
        self._failures: dict[ModelHealth, int] = {}

    async def first(self) -> Candidate[P_co]:
        """Return who is asked first.

        Raises: DeadlineExceeded without the time for a request; what `refusals.refusal` says when
        nobody can take the call.
        """
        left = remaining_seconds()
        if left is not None and left < LEAST_SECONDS:
            raise DeadlineExceeded("No time is left to ask a model.")
        candidates = self._candidates(self._grants[0])
        one = chosen(candidates)
        if one is None:
            if any(one.health.wanted for one in candidates):
                await self._rules.grant_wanted()
            one = self.elsewhere()
        if one is None:
            grant = self._grants[0]
            raise refusal(grant, candidates, self._needs, self._choosing.clock)
        self._budget(one).record_call()
        return one

    def instead_of(self, full: Candidate[P_co], error: ServiceError) -> Candidate[P_co]:
        """Return who is asked instead of a deployment whose limits have no room.

        Raises: `error` when there is nobody.
        """
        now = self._choosing.clock.monotonic()
        full.health.note_full(now, error.retry_after_seconds)
        self._failures.setdefault(full.health, 0)
        one = self.elsewhere()
        if one is None:
            raise error
        return one

    def is_first_failure(self, one: Candidate[P_co]) -> bool:
        """Return whether this call has not failed there before; notes that it has now."""
        before = self._failures.get(one.health, 0)
        self._failures[one.health] = before + 1
        return before == 0

    def after(self, failed: Candidate[P_co], error: ServiceError) -> Next[P_co] | None:
        """Return what follows the failure of a request; None: the call has failed."""
        remedy = remedy_for(error)
        if remedy is Remedy.NONE or not self.has_more():
            return None
        self._failures.setdefault(failed.health, 0)
        window = failed.deployment.context_window if remedy is Remedy.LARGER else None
        one, delay = self.elsewhere(larger_than=window), 0.0
        if one is None:
            pause = self._pause_before(failed, error)
            if pause is None:
                return None
            one, delay = failed, pause
        if not one.health.is_well and not self._budget(failed).try_spend():
            return None
        return Next(one, delay)

    def has_more(self) -> bool:
        """Return whether there may be another request: by count, by time, by who asked."""
        left = remaining_seconds()
        return (
            self.number < self.policy.max_attempts
            and current().retry_attempt == 0
            and (left is None or left >= LEAST_SECONDS)
        )

    def hedge(self, first: Candidate[P_co]) -> Candidate[P_co] | None:
        """Return whom to ask beside a deployment that is silent; None: nobody."""
        if not self.has_more():
            return None
        self._failures.setdefault(first.health, 0)
        one = self.elsewhere()
        return one if one is not None and self._budget(first).try_spend() else None

    def elsewhere(self, *, larger_than: int | None = None) -> Candidate[P_co] | None:
        """Return a deployment that was not asked yet: of the model, then of its fallbacks."""
        index = 0
        while True:
            if index == len(self._grants) and not self._next_fallback():
                return None
            for one in self._candidates(self._grants[index]):
                if not one.eligible or one.health in self._failures:
                    continue
                if larger_than is None or one.deployment.context_window > larger_than > 0:
                    return one
            index += 1

    def _next_fallback(self) -> bool:
        while self._fallbacks:
            grant = self._grants[0].instead(self._fallbacks.pop(0))
            if grant is not None:
                self._grants.append(grant)
                return True
        return False

    def _candidates(self, grant: Grant[P_co]) -> list[Candidate[P_co]]:
        found = self._choosing.candidates(
            grant.resolved.routes, self.policy, self._needs, grant.allows
        )
        for one in found:
            if one.is_rested:
                one.health.want()
        return found

    def _pause_before(self, failed: Candidate[P_co], error: ServiceError) -> float | None:
        """Return the seconds before the same deployment is asked again; None: it is not."""
        times = max(self._failures[failed.health], 1)
        delay = delay_before_retry(error, times, remaining_seconds())
        rest = failed.rest
        if delay is None or rest is None:
            return delay
        until = self._choosing.clock.monotonic() + delay
        return None if rest.broken or rest.until > until + LEAST_SECONDS else delay

    def _budget(self, one: Candidate[P_co]) -> RetryBudget:
        return self._rules.retry_budgets.of("/".join(("model", *one.deployment.key)))
