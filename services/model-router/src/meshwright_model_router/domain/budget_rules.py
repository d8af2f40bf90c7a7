"""What an attempt asks of which budgets: limits by plan and tier, weights by feature."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Final

from meshwright_model_router.domain.budgets import WHOLE, Attempt, Counted, Estimate, weighted
from meshwright_model_router.domain.pricing import TOKENS_PER_PRICE, Prices

COUNT_AS_WE_DO: Final = frozenset({"offline", "builtin"})
"""Providers whose count is ours: nothing is held beyond it."""


@dataclass(frozen=True, slots=True)
class Tier:
    """What one user may use a day; 0: no limit of its own."""

    tokens_per_day: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one UTC day that apply to an attempt; 0: none."""

    plan: str = ""
    tenant_tokens: int = 0
    tenant_micro_usd: int = 0
    user_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """The most that an attempt may use, and how little it makes do with.

    `output_tokens` may be cut down to `least_output_tokens` when no more is left.
    """

    prompt_tokens: int
    output_tokens: int
    least_output_tokens: int
    thousandths: int
    input_price: int
    output_price: int
    limits: Limits

    def counted(self, output_tokens: int) -> Counted:
        """Return what budgets count for the prompt and so much output."""
        price = self.prompt_tokens * self.input_price + output_tokens * self.output_price
        return Counted(
            weighted(self.prompt_tokens + output_tokens, self.thousandths),
            -(-price // TOKENS_PER_PRICE),
        )

    def output_within(self, free_tokens: int | None, free_micro_usd: int | None) -> int:
        """Return the output that fits what is free (None: no limit); below the least: none does.

        The script in Redis does the same: `adapters/budget_scripts.py`.
        """
        output = self.output_tokens
        if free_tokens is not None and self.counted(output).tokens > free_tokens:
            output = free_tokens * WHOLE // self.thousandths - self.prompt_tokens
        if free_micro_usd is not None and self.counted(max(output, 0)).micro_usd > free_micro_usd:
            left = free_micro_usd * TOKENS_PER_PRICE - self.prompt_tokens * self.input_price
            output = min(output, left // self.output_price) if self.output_price else -1
        return output


@dataclass(frozen=True, slots=True)
class Rules:
    """The operator's rules. `thousandths`: what a token counts, by feature."""

    tiers: Mapping[str, Tier]
    tier_of_plan: Mapping[str, str]
    thousandths: Mapping[str, int]
    default_output_tokens: int
    least_output_tokens: int
    prompt_margin: float

    def __post_init__(self) -> None:
        for plan, tier in self.tier_of_plan.items():
            if tier not in self.tiers:
                raise ValueError(f"plan {plan} has tier {tier!r}, which is none of {self.tiers}")

    def user_tokens(self, plan: str) -> int:
        """Return the tokens that one user of a plan may use a day; 0: no limit."""
        tier = self.tiers.get(self.tier_of_plan.get(plan, ""))
        return 0 if tier is None else tier.tokens_per_day

    def ask(self, attempt: Attempt, estimate: Estimate, prices: Prices, limits: Limits) -> Ask:
        """Return what an attempt asks for."""
        if estimate.no_output:
            output = least = 0
        else:
            output = estimate.output_tokens or self.default_output_tokens
            least = min(output, self.least_output_tokens)
        return Ask(
            prompt_tokens=ceil(
                estimate.prompt_tokens
                * (1 if attempt.deployment.provider in COUNT_AS_WE_DO else self.prompt_margin)
            ),
            output_tokens=output,
            least_output_tokens=least,
            thousandths=self.thousandths.get(attempt.attribution.feature, WHOLE),
            # Input that the provider has cached may cost more than other input.
            input_price=max(prices.input, prices.cached_or_input),
            output_price=prices.output,
            limits=limits,
        )
