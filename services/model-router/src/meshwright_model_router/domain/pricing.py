"""Prices, in integers only: a cost is never a float."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

TOKENS_PER_PRICE: Final = 1_000_000
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""When a price begins of which nobody says when."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Millionths of a US dollar per million tokens: 2.50 USD is 2 500 000.

    `cached` is the price of input served from the provider's cache; None: the price of input.
    """

    input: int = 0
    output: int = 0
    cached: int | None = None

    @property
    def cached_or_input(self) -> int:
        """The price of input served from the provider's cache."""
        return self.input if self.cached is None else self.cached

    def cost_micro_usd(
        self, *, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0
    ) -> int:
        """Return the cost, rounded half up. `cached_tokens` are part of `prompt_tokens`."""
        total = (
            (prompt_tokens - cached_tokens) * self.input
            + cached_tokens * self.cached_or_input
            + completion_tokens * self.output
        )
        return (total + TOKENS_PER_PRICE // 2) // TOKENS_PER_PRICE


@dataclass(frozen=True, slots=True)
class PricePeriod:
    """Prices of what begins at `since` or later, until the next period. `builtin`: the operator's
    or the platform's."""

    since: datetime
    prices: Prices
    builtin: bool = True


FREE: Final = Prices()


@dataclass(frozen=True, slots=True)
class PriceHistory:
    """What a deployment costs, and when. `periods` are in order of time, one a moment."""

    periods: tuple[PricePeriod, ...] = ()

    @classmethod
    def of(cls, prices: Prices) -> Self:
        """Return a history of prices that never change."""
        return cls((PricePeriod(BEGINNING, prices),))

    @classmethod
    def ordered(cls, periods: Iterable[PricePeriod]) -> Self:
        """Return a history in order of time; of two that begin together the later one counts."""
        return cls(
            tuple(sorted({one.since: one for one in periods}.values(), key=lambda one: one.since))
        )

    def at(self, moment: datetime) -> Prices:
        """Return the prices of what begins at `moment`; nothing costs anything before the first."""
        periods = self.periods
        if not periods:
            return FREE
        # Nearly always there is one price, or the newest is in force.
        if moment >= periods[-1].since:
            return periods[-1].prices
        before = bisect_right(periods, moment, key=lambda one: one.since)
        return periods[before - 1].prices if before else FREE


NO_PRICES: Final = PriceHistory()
