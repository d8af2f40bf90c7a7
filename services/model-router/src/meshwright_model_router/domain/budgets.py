"""Reserving what an attempt may use before it is made, and settling what it did use.

Tokens and money are held before a request is sent and settled to what it used after it, so that
used and held together never exceed a budget, however many calls run at once. A budget counts
tokens by the weight of the feature that asked: `Weight`.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final, Protocol

from meshwright_common.ids import new_id
from meshwright_model_router.domain.catalogue import Deployment
from meshwright_model_router.domain.output import TokenUsage
from meshwright_model_router.domain.usage import Attribution, Operation

WHOLE: Final = 1000
"""Thousandths that a token counts when its feature has no weight of its own."""


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
    """The most that an attempt may use: tokens of input and of output.

    `output_tokens` 0: the caller sets no bound, and the platform's is taken. `no_output`: the
    operation makes none, such as an embedding.
    """

    prompt_tokens: int
    output_tokens: int = 0
    no_output: bool = False


@dataclass(frozen=True, slots=True)
class Counted:
    """What budgets count: weighted tokens, and millionths of a US dollar."""

    tokens: int = 0
    micro_usd: int = 0


NOTHING: Final = Counted()


def weighted(tokens: int, thousandths: int) -> int:
    """Return what `tokens` count at a weight, rounded up: a part of a token is a token."""
    return -(-tokens * thousandths // WHOLE)


@dataclass(frozen=True, slots=True)
class Hold:
    """What is held for an attempt, as the attempt log and the ledger know it.

    `day` is the UTC day whose budgets it is in, also when it ends on the next one.
    `reserved_at_milliseconds` is a moment of the clock that all reservations of the tenant share.
    """

    reservation_id: str
    day: date
    reserved_at_milliseconds: int
    held: Counted
    thousandths: int = WHOLE

    def counted(self, usage: TokenUsage) -> Counted:
        """Return what budgets count for `usage`."""
        tokens = usage.prompt_tokens + usage.completion_tokens
        return Counted(weighted(tokens, self.thousandths), usage.cost_micro_usd)


def unheld(now: datetime) -> Hold:
    """Return the hold of an attempt that nothing was held for."""
    moment = now.astimezone(UTC)
    return Hold(new_id(), moment.date(), int(moment.timestamp() * 1000), NOTHING)


class Reservation(Protocol):
    """Amounts held for one attempt until it is settled or released."""

    @property
    def hold(self) -> Hold:
        """What is held."""
        ...

    @property
    def output_tokens(self) -> int:
        """Tokens that the attempt may produce; the provider is asked for no more. 0: any."""
        ...

    def settle(self, counted: Counted) -> None:
        """Give back what was not used, once the usage row is durable. The usage log calls this.

        Returns at once; a second settling changes nothing.
        """
        ...

    def release(self) -> None:
        """Give everything back: no request was sent, and there is no usage row. Returns at once."""
        ...


class Budgets(Protocol):
    """The budgets of tenants and users, and the limits of deployments."""

    async def reserve(self, attempt: Attempt, estimate: Estimate) -> Reservation:
        """Hold what an attempt may use, in all budgets at once or in none.

        The reservation may be for less output than was asked for when that is all that is left.
        Its usage record settles it: `UsageLog.settle` or `submit` takes both.
        Raises: QuotaExceeded with `retry_after_seconds` for a budget of the tenant or the user;
        DeploymentLimited when only the deployment is full (another one may do); LimitsUnavailable.
        """
        ...


@dataclass(frozen=True, slots=True)
class BudgetState:
    """One budget of the current UTC day. `limit` 0: none, and it is only counted."""

    name: str
    scope: str
    limit: int
    used: int
    reserved: int
    reset_at: datetime


class BudgetReader(Protocol):
    """What is used and held of budgets."""

    async def states(self, tenant_id: str, user_id: str) -> tuple[list[BudgetState], bool]:
        """Return the budgets of a tenant, then those of a user of it ("": nobody).

        Also whether they come from the ledger and this process alone. Raises: Unavailable.
        """
        ...


@dataclass(frozen=True, slots=True)
class Free:
    """A reservation of nothing."""

    hold: Hold
    output_tokens: int = 0

    def settle(self, counted: Counted) -> None:
        """Do nothing: nothing is held."""

    def release(self) -> None:
        """Do nothing: nothing is held."""
