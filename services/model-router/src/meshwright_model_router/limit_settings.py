"""Settings of budgets: `MESHWRIGHT_LIMITS__…`."""

from types import MappingProxyType
from typing import Final, Literal

from pydantic import Field, field_validator

from meshwright_common.quotas import PlanName
from meshwright_common.settings import Section
from meshwright_model_router.domain.budget_rules import Rules, Tier
from meshwright_model_router.domain.budgets import WHOLE


class TierSection(Section):
    """What one user may use; 0: no limit of its own beside the tenant's."""

    tokens_per_day: int = Field(default=0, ge=0)


TIERS: Final = MappingProxyType(
    {
        "free": TierSection(tokens_per_day=100_000),
        "pro": TierSection(tokens_per_day=2_000_000),
        "enterprise": TierSection(),
    }
)
TIER_OF_PLAN: Final[MappingProxyType[PlanName, str]] = MappingProxyType(
    {"starter": "free", "professional": "pro", "enterprise": "enterprise"}
)
TOKEN_FACTORS: Final = MappingProxyType({"agent": 1.5, "search": 0.3, "chat": 1.0})


class LimitSettings(Section):
    """How tokens and money are counted. Plans say what a tenant may use, tiers what a user may."""

    tiers: dict[str, TierSection] = Field(default_factory=TIERS.copy)
    tier_of_plan: dict[PlanName, str] = Field(default_factory=TIER_OF_PLAN.copy)
    token_factors: dict[str, float] = Field(default_factory=TOKEN_FACTORS.copy)
    """How much a token counts, by the feature that asks. Others: 1."""
    default_output_tokens: int = Field(default=8_192, ge=1, le=128_000)
    """What is held for output when a request sets no bound. Where a budget has a limit, it is sent
    to the provider as the bound."""
    least_output_tokens: int = Field(default=64, ge=1)
    """A call gets what is left of a budget when that is so much at least, or all it asks for."""
    prompt_margin: float = Field(default=1.2, ge=1, le=4)
    """What is held for the prompt, by our estimate: providers count a little differently."""
    when_away: Literal["share", "refuse"] = "share"
    """Without Redis: give out a part of what the ledger has left, or nothing."""
    replicas: int = Field(default=4, ge=1, le=1000)
    """Processes of model-router, for the part that one of them may give out without Redis."""
    lease_seconds: float = Field(default=20, ge=1, le=60)
    """How long what a process holds outlives it."""
    reconcile_seconds: float = Field(default=60, ge=0.2)
    """How often what Redis counts is compared with the ledger."""

    @field_validator("token_factors")
    @classmethod
    def _are_factors(cls, factors: dict[str, float]) -> dict[str, float]:
        for feature, factor in factors.items():
            if not 0.001 <= factor <= 100:
                raise ValueError(f"{feature}: must be 0.001 to 100")
        return factors

    def rules(self) -> Rules:
        """Return the rules. Raises: ValueError when a plan names a tier that there is not."""
        return Rules(
            tiers={name: Tier(one.tokens_per_day) for name, one in self.tiers.items()},
            tier_of_plan={str(plan): tier for plan, tier in self.tier_of_plan.items()},
            thousandths={name: round(one * WHOLE) for name, one in self.token_factors.items()},
            default_output_tokens=self.default_output_tokens,
            least_output_tokens=self.least_output_tokens,
            prompt_margin=self.prompt_margin,
        )
