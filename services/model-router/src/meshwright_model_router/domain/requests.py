"""One request to a provider: begun with a reservation, ended with a record of what it used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from meshwright_common.clock import Clock
from meshwright_common.context import current, principal
from meshwright_common.errors import InvalidArgument, ServiceError
from meshwright_model_router.domain.attempts import Attempts
from meshwright_model_router.domain.budgets import Attempt, Budgets, Estimate, Reservation
from meshwright_model_router.domain.choosing import Candidate
from meshwright_model_router.domain.errors import DeploymentLimited
from meshwright_model_router.domain.output import TokenUsage
from meshwright_model_router.domain.usage import (
    Attribution,
    Operation,
    Outcome,
    UsageRecord,
    priced,
)

P_co = TypeVar("P_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Purpose:
    """Who a call is for, and what for.

    Kept from its beginning: a generator may be closed in another context than it was started in.
    """

    tenant_id: str
    user_id: str
    correlation_id: str
    attribution: Attribution
    operation: Operation

    @classmethod
    def of(cls, operation: Operation, attribution: Attribution) -> Purpose:
        """Return it for the current caller."""
        caller = principal()
        return cls(
            caller.tenant_id,
            caller.subject if caller.kind == "user" else "",
            current().correlation_id,
            attribution,
            operation,
        )


async def reserve(
    budgets: Budgets,
    attempts: Attempts[P_co],
    candidate: Candidate[P_co],
    purpose: Purpose,
    estimate: Estimate,
) -> tuple[Candidate[P_co], Reservation]:
    """Hold what a request to `candidate` may use; when its limits are full, to the next one.

    Raises: as `Budgets.reserve`.
    """
    while True:
        attempt = Attempt(
            tenant_id=purpose.tenant_id,
            user_id=purpose.user_id,
            correlation_id=purpose.correlation_id,
            attribution=purpose.attribution,
            operation=purpose.operation,
            model=candidate.route.model,
            deployment=candidate.deployment,
            number=attempts.number + 1,
        )
        try:
            reservation = await budgets.reserve(attempt, estimate)
        except DeploymentLimited as error:
            candidate = attempts.instead_of(candidate, error)
        else:
            attempts.number += 1
            return candidate, reservation


class ProviderRequest(Generic[P_co]):
    """A request that is sent. Ends once: with `end`, which returns its record."""

    def __init__(
        self,
        candidate: Candidate[P_co],
        purpose: Purpose,
        reservation: Reservation,
        number: int,
        clock: Clock,
    ) -> None:
        self.candidate = candidate
        self.reservation = reservation
        self.number = number
        self.ended = False
        self._purpose = purpose
        self._clock = clock
        self._began = clock.monotonic()
        self._prices = candidate.deployment.prices.at(clock.now())
        self._trial = candidate.health.begin(self._began)
        self.first_output_at: float | None = None

    def withdraw(self) -> None:
        """Take back a request that was not sent."""
        self.ended = True
        self.candidate.health.forgotten(trial=self._trial)
        self.reservation.release()

    def spoke(self) -> None:
        """Note that the deployment began to answer."""
        now = self._clock.monotonic()
        trial, self._trial = self._trial, False
        self.candidate.health.spoke(now, now - self._began, trial=trial)

    def succeeded(self) -> None:
        """Note that the deployment answered."""
        now, first = self._clock.monotonic(), self.first_output_at
        seconds = None if first is None else first - self._began
        self.candidate.health.succeeded(now, seconds, trial=self._trial)

    def left(self) -> None:
        """Note that nobody waits for the rest; a deployment that had begun to answer does."""
        if self.first_output_at is not None:
            self.succeeded()
        else:
            self.candidate.health.forgotten(trial=self._trial)

    def failed(self, error: ServiceError, attempts: Attempts[Any]) -> None:
        """Note a failure, unless the request itself is at fault."""
        if isinstance(error, InvalidArgument):
            self.candidate.health.forgotten(trial=self._trial)
            return
        counts = attempts.is_first_failure(self.candidate)
        now = self._clock.monotonic()
        self.candidate.health.failed(now, error, trial=self._trial, counts=counts)

    def record(
        self, outcome: Outcome, usage: TokenUsage, *, reason: str = "", repeated: bool = False
    ) -> UsageRecord:
        """Return the record of what was used; `usage` comes without its price."""
        self.ended = True
        purpose, deployment = self._purpose, self.candidate.deployment
        return UsageRecord(
            tenant_id=purpose.tenant_id,
            user_id=purpose.user_id,
            correlation_id=purpose.correlation_id,
            attribution=purpose.attribution,
            operation=purpose.operation,
            outcome=outcome,
            reason=reason,
            model=self.candidate.route.model,
            deployment=deployment.name,
            provider=deployment.provider,
            usage=priced(usage, self._prices),
            first_token_milliseconds=self._milliseconds(self.first_output_at),
            duration_milliseconds=self._milliseconds(self._clock.monotonic()),
            number=self.number,
            repeated_by_platform=repeated,
        )

    def _milliseconds(self, until: float | None) -> int:
        return 0 if until is None else max(1, round((until - self._began) * 1000))
