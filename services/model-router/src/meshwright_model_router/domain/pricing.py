"""Prices, in integers only: a cost is never a float."""

from dataclasses import dataclass
from typing import Final

TOKENS_PER_PRICE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """Millionths of a US dollar per million tokens: 2.50 USD is 2 500 000.

    `cached` is the price of input served from the provider's cache; None: the price of input.
    """

    input: int = 0
    output: int = 0
    cached: int | None = None

    def cost_micro_usd(
        self, *, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0
    ) -> int:
        """Return the cost, rounded half up. `cached_tokens` are part of `prompt_tokens`."""
        cached_price = self.input if self.cached is None else self.cached
        total = (
            (prompt_tokens - cached_tokens) * self.input
            + cached_tokens * cached_price
            + completion_tokens * self.output
        )
        return (total + TOKENS_PER_PRICE // 2) // TOKENS_PER_PRICE
