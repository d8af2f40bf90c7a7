"""A deployment: one place where a model can be called, and what is known of it."""

import re
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from meshwright_model_router.domain.pricing import NO_PRICES, PriceHistory
from meshwright_model_router.domain.routing import (
    DEFAULT_PRIORITY,
    DEFAULT_WEIGHT,
    CoolDown,
    DeploymentLimits,
)
from meshwright_model_router.domain.usage import Operation

WILDCARD: Final = "*"
PURPOSES: Final = {operation.value: operation for operation in Operation}
"""The capabilities that say what a deployment is for; the others say what it can do then."""
ABILITIES: Final = ("tools", "vision", "json_schema", "reasoning")
CAPABILITIES: Final = frozenset({*PURPOSES, *ABILITIES})
TENANTS_KINDS: Final = ("openai", "azure", "anthropic")
"""Kinds of providers that tenants may name: the others run code of the operator's."""
UNLIMITED: Final = DeploymentLimits()
DEFAULT_COOL_DOWN: Final = CoolDown()

_REQUESTED: Final = re.compile(r"[A-Za-z0-9._:/@+-]{1,512}")
"""What a name may hold that only a pattern knows: it is sent to the provider as it is."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One place where a model can be called. Several may serve the same model.

    `name` is unique for a tenant; `tenant_id` is the owner, "" the operator. `model` is what
    clients ask for: one name, or a pattern `prefix*`. `provider_model` is what the provider is
    asked for; `*` passes the requested name on, "" is the same as `model`. `context_window` 0:
    unknown. Lower `priority` comes first.
    """

    name: str
    model: str
    provider: str
    provider_model: str = ""
    tenant_id: str = ""
    disabled: bool = False
    priority: int = DEFAULT_PRIORITY
    weight: int = DEFAULT_WEIGHT
    limits: DeploymentLimits = UNLIMITED
    context_window: int = 0
    capabilities: tuple[str, ...] = ()
    prices: PriceHistory = NO_PRICES
    embedding_dimensions: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from every other one of the platform: owner and name."""
        return self.tenant_id, self.name

    @property
    def is_pattern(self) -> bool:
        """True when `model` stands for every name with its prefix."""
        return self.model.endswith(WILDCARD)

    @property
    def operations(self) -> frozenset[Operation]:
        """What it is for: the purposes among its capabilities; without any the likeliest one."""
        named = frozenset(PURPOSES[one] for one in self.capabilities if one in PURPOSES)
        if named:
            return named
        return frozenset({Operation.EMBED if self.embedding_dimensions else Operation.GENERATE})

    @property
    def abilities(self) -> tuple[str, ...]:
        """What it can do beyond its purposes: "tools", "vision" and the like."""
        return tuple(one for one in self.capabilities if one not in PURPOSES)

    def serves(self, model: str) -> bool:
        """Return whether a request for `model` may go here."""
        if self.is_pattern:
            return model.startswith(self.model[:-1]) and bool(_REQUESTED.fullmatch(model))
        return model == self.model

    def model_for(self, requested: str) -> str:
        """Return the name to send to the provider for a request."""
        wanted = self.provider_model or self.model
        return requested if wanted == WILDCARD else wanted

    def plan_names(self, requested: str) -> tuple[str, ...]:
        """Return the names of which one must be in a tenant's plan for a request to go here.

        An alias that the operator gives, such as "fast", is as small as the model behind it. A
        tenant's own alias says nothing: only the provider's name counts.
        """
        behind = self.model_for(requested)
        return (behind,) if self.tenant_id else (requested, behind)


P_co = TypeVar("P_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Route(Generic[P_co]):
    """Where a request goes: the deployment, its provider, and the provider's model name.

    `cool_down` is what the deployment's owner says, whoever calls: its breaker is shared.
    """

    deployment: Deployment
    provider: P_co
    model: str
    cool_down: CoolDown = DEFAULT_COOL_DOWN
