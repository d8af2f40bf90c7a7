"""Settings of the plans: `MESHWRIGHT_SESSION__PLANS__STARTER__SESSIONS=200`."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

from pydantic import Field, ValidationInfo, field_validator

from meshwright_common.settings import Section
from meshwright_session.domain import plans
from meshwright_session.domain.directory_models import Plan
from meshwright_session.domain.plans import DEFAULT_PLANS, Limits, Plans

_NAMES: Final[tuple[Plan, ...]] = ("starter", "professional", "enterprise")


class PlanSection(Section):
    """What a plan includes; 0: no limit. `models`: `*` is any characters, none: all models."""

    sessions: int = Field(ge=0)
    tokens_per_day: int = Field(ge=0)
    documents: int = Field(ge=0)
    storage_bytes: int = Field(ge=0)
    concurrent_turns: int = Field(ge=0, lt=1 << 31)
    models: tuple[str, ...] = Field(max_length=plans.MAX_MODELS)
    cost_micro_usd_per_day: int = Field(default=0, ge=0)
    """Price of model calls, in millionths of a US dollar."""

    @field_validator("models")
    @classmethod
    def _are_names(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        for name in models:
            if not plans.MODEL_NAME.fullmatch(name):
                raise ValueError(f"{name!r} {plans.MODEL_NAME_RULE}")
        return tuple(name.lower() for name in models)

    def limits(self) -> Limits:
        """Return the limits."""
        return Limits(**dict(self))


def _default(plan: Plan) -> PlanSection:
    return PlanSection(**asdict(DEFAULT_PLANS.by_name[plan]))


class PlansSection(Section):
    """The plans of this platform; what is not set is as the product has it.

    `alert_percents` of a limit are told to the tenant's administrators.
    """

    starter: PlanSection = _default("starter")
    professional: PlanSection = _default("professional")
    enterprise: PlanSection = _default("enterprise")
    alert_percents: tuple[int, ...] = Field(default=plans.ALERT_PERCENTS, max_length=20)

    @field_validator(*_NAMES, mode="before")
    @classmethod
    def _complete(cls, given: object, info: ValidationInfo) -> object:
        if not isinstance(given, Mapping):
            return given
        return {**dict(cls.model_fields[str(info.field_name)].default), **given}

    @field_validator("alert_percents")
    @classmethod
    def _are_shares(cls, percents: tuple[int, ...]) -> tuple[int, ...]:
        if not all(1 <= percent <= 100 for percent in percents):
            raise ValueError("must be 1 to 100 each")
        return tuple(sorted(set(percents)))

    def plans(self) -> Plans:
        """Return the plans."""
        limits = {plan: getattr(self, plan).limits() for plan in _NAMES}
        return Plans(limits, self.alert_percents)
