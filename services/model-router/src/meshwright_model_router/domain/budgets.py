"""Reserving what an attempt may use before it is made, and settling what it did use."""

from dataclasses import dataclass
from typing import Protocol

from meshwright_model_router.domain.catalogue import Deployment
from meshwright_model_router.domain.output import TokenUsage
from meshwright_model_router.domain.usage import Attribution, Operation


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to a provider. `number` counts the requests of its call from 1."""

    tenant_id: str
    user_id: str
    correlation_id: str
    attribution: Attribution
    operation: Operation
    model: str
    deployment: Deployment
    number: int = 1


@dataclass(frozen=True, slots=True)
class Estimate:
    """The most that an attempt may use: tokens of input and of output."""

    prompt_tokens: int
    output_tokens: int


class Reservation(Protocol):
    """Amounts held for one attempt until it is settled."""

    @property
    def output_tokens(self) -> int:
        """Tokens that the attempt may produce; the provider is asked for no more."""
        ...

    def settle(self, usage: TokenUsage) -> None:
        """Give back what was not used. Returns at once; a second settling changes nothing."""
        ...


class Budgets(Protocol):
    """The budgets of tenants and users, and the limits of deployments."""

    async def reserve(self, attempt: Attempt, estimate: Estimate) -> Reservation:
        """Hold what an attempt may use, in all budgets at once or in none.

        Raises: QuotaExceeded with `retry_after_seconds` for a budget of the tenant or the user;
        DeploymentLimited when only the deployment is full (another one may do); LimitsUnavailable.
        """
        ...
