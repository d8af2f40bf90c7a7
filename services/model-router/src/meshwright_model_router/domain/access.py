"""Which models the caller's tenant may use, and whether it may use any at the moment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar, cast, overload

from meshwright_common.context import principal
from meshwright_model_router.domain.catalogue import WILDCARD, Deployment
from meshwright_model_router.domain.errors import ModelNotAllowed, ModelNotFound
from meshwright_model_router.domain.ports import ChatProvider, EmbeddingProvider
from meshwright_model_router.domain.ports_other import ModerationProvider, RerankProvider
from meshwright_model_router.domain.routing_table import (
    Offer,
    Resolved,
    RoutingTable,
    RoutingTables,
)
from meshwright_model_router.domain.usage import Operation

P_co = TypeVar("P_co", covariant=True)


class Quota(Protocol):
    """What a tenant may use."""

    @property
    def plan(self) -> str:
        """Name of its plan."""
        ...

    @property
    def models(self) -> tuple[str, ...]:
        """Patterns of the names of its models; none: all models."""
        ...

    def allows_model(self, name: str) -> bool:
        """Return whether it may use a model of this name."""
        ...


class Quotas(Protocol):
    """The quotas of tenants, a few seconds old at most."""

    async def admit(self, tenant_id: str) -> Quota:
        """Return the quota of a tenant that may use a model now.

        Raises: FailedPrecondition (TENANT_SUSPENDED), QuotaExceeded for tokens, Unavailable.
        """
        ...

    async def of(self, tenant_id: str) -> Quota:
        """Return a tenant's quota. Raises: Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Grant(Generic[P_co]):
    """What a call may use: the deployments of its model and their policy, within the plan.

    `model` is the one that answers when nothing fails: what was asked for, or stands in for it.
    """

    model: str
    resolved: Resolved[P_co]
    table: RoutingTable
    quota: Quota
    operation: Operation

    def allows(self, deployment: Deployment) -> bool:
        """Return whether the plan includes a deployment of the model."""
        return _allows(self.table, self.quota, deployment, self.model)

    def instead(self, model: str) -> "Grant[P_co] | None":
        """Return the same for another model, of a fallback chain; None: there is none."""
        try:
            resolved = cast("Resolved[P_co]", self.table.resolve(model, self.operation))
        except ModelNotFound:
            return None
        return Grant(model, resolved, self.table, self.quota, self.operation)


class ModelAccess:
    """Finds models for the current caller."""

    def __init__(self, tables: RoutingTables, quotas: Quotas) -> None:
        self._tables = tables
        self._quotas = quotas

    @overload
    async def grant(
        self, name: str, operation: Literal[Operation.GENERATE]
    ) -> Grant[ChatProvider]: ...

    @overload
    async def grant(
        self, name: str, operation: Literal[Operation.EMBED]
    ) -> Grant[EmbeddingProvider]: ...

    @overload
    async def grant(
        self, name: str, operation: Literal[Operation.RERANK]
    ) -> Grant[RerankProvider]: ...

    @overload
    async def grant(
        self, name: str, operation: Literal[Operation.MODERATE]
    ) -> Grant[ModerationProvider]: ...

    async def grant(self, name: str, operation: Operation) -> Grant[Any]:
        """Return what the caller may use for `name`; "" is the default model, or, to generate, the
        first one that is allowed.

        Raises: ModelNotFound, ModelNotAllowed; as `Quotas.admit`.
        """
        tenant_id = principal().tenant_id
        return self._within(tenant_id, await self._quotas.admit(tenant_id), name, operation)

    async def view(self, name: str, operation: Operation) -> Grant[Any]:
        """Return what there is for `name`, also what the plan excludes, to be looked at.

        Raises: ModelNotFound, Unavailable.
        """
        tenant_id = principal().tenant_id
        quota = await self._quotas.of(tenant_id)
        table = self._tables.of(tenant_id)
        resolved = table.resolve(name, operation)
        return Grant(resolved.model, resolved, table, quota, operation)

    def _within(self, tenant_id: str, quota: Quota, name: str, operation: Operation) -> Grant[Any]:
        table = self._tables.of(tenant_id)
        resolved = table.resolve(name, operation)
        found = Grant(resolved.model, resolved, table, quota, operation)
        if any(found.allows(route.deployment) for route in resolved.routes):
            return found
        if not name and operation is Operation.GENERATE:
            # The default is beyond the plan: what is not named may be any that is not.
            for other in table.models(operation):
                if other.endswith(WILDCARD) or other in table.everywhere:
                    # The built-in model answers when it is asked, never in the place of a real one.
                    continue
                instead = Grant(other, table.resolve(other, operation), table, quota, operation)
                if any(instead.allows(route.deployment) for route in instead.resolved.routes):
                    return instead
        raise ModelNotAllowed(
            model=resolved.model, plan=quota.plan, allowed=", ".join(quota.models) or "all"
        )

    async def allowed(self) -> Sequence[Offer]:
        """Return what the caller's tenant may name, by name; patterns are no names."""
        tenant_id = principal().tenant_id
        quota = await self._quotas.of(tenant_id)
        table = self._tables.of(tenant_id)
        offers: list[Offer] = []
        for offer in table.offers:
            if offer.is_pattern:
                continue
            usable = tuple(
                one
                for one in offer.deployments
                if not one.disabled and _allows(table, quota, one, offer.model)
            )
            if usable:
                offers.append(Offer(offer.model, usable))
        return offers


def _allows(table: RoutingTable, quota: Quota, deployment: Deployment, model: str) -> bool:
    if model in table.everywhere and not deployment.tenant_id:
        return True
    return any(map(quota.allows_model, deployment.plan_names(model)))
