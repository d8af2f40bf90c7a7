"""Which models the caller's tenant may use, and whether it may use any at the moment."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from meshwright_common.context import principal
from meshwright_model_router.domain.catalogue import WILDCARD, Deployment, Route
from meshwright_model_router.domain.errors import ModelNotAllowed, NoDeployment
from meshwright_model_router.domain.ports import ChatProvider, EmbeddingProvider
from meshwright_model_router.domain.routing_table import (
    Offer,
    Resolved,
    RoutingTable,
    RoutingTables,
)
from meshwright_model_router.domain.usage import Operation

P = TypeVar("P")


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


class ModelAccess:
    """Finds models for the current caller."""

    def __init__(self, tables: RoutingTables, quotas: Quotas) -> None:
        self._tables = tables
        self._quotas = quotas

    async def chat(self, name: str) -> Route[ChatProvider]:
        """Return who generates for `name`; "" is the default, or the first one that is allowed.

        Raises: ModelNotFound, ModelNotAllowed, NoDeployment; as `Quotas.admit`.
        """
        tenant_id = principal().tenant_id
        quota = await self._quotas.admit(tenant_id)
        table = self._tables.of(tenant_id)
        resolved = table.resolve(name, Operation.GENERATE)
        allowed = self._allowed_routes(table, quota, resolved, name)
        if allowed:
            return _first(resolved.model, allowed)
        if not name:
            # The default is beyond the plan: what is not named may be any that is not.
            for other in table.models(Operation.GENERATE):
                if other.endswith(WILDCARD) or other in table.everywhere:
                    # The built-in model answers when it is asked, never in the place of a real one.
                    continue
                instead = table.resolve(other, Operation.GENERATE)
                allowed = self._allowed_routes(table, quota, instead, other)
                if allowed:
                    return _first(other, allowed)
        raise self._refusal(quota, resolved.model)

    async def embedding(self, name: str) -> Route[EmbeddingProvider]:
        """Return who embeds for `name`; "" is the default, which every plan has.

        Raises: as `chat`.
        """
        tenant_id = principal().tenant_id
        quota = await self._quotas.admit(tenant_id)
        table = self._tables.of(tenant_id)
        resolved = table.resolve(name, Operation.EMBED)
        allowed = self._allowed_routes(table, quota, resolved, name)
        if allowed:
            return _first(resolved.model, allowed)
        raise self._refusal(quota, resolved.model)

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
                if not one.disabled and self._allows(table, quota, one, offer.model)
            )
            if usable:
                offers.append(Offer(offer.model, usable))
        return offers

    def _allowed_routes(
        self, table: RoutingTable, quota: Quota, resolved: Resolved[P], asked: str
    ) -> list[Route[P]]:
        model = asked or resolved.model
        return [
            route
            for route in resolved.routes
            if self._allows(table, quota, route.deployment, model)
        ]

    def _allows(
        self, table: RoutingTable, quota: Quota, deployment: Deployment, model: str
    ) -> bool:
        if model in table.everywhere and not deployment.tenant_id:
            return True
        return any(map(quota.allows_model, deployment.plan_names(model)))

    def _refusal(self, quota: Quota, name: str) -> ModelNotAllowed:
        return ModelNotAllowed(
            model=name, plan=quota.plan, allowed=", ".join(quota.models) or "all"
        )


def _first(model: str, routes: Sequence[Route[P]]) -> Route[P]:
    enabled = [route for route in routes if not route.deployment.disabled]
    if not enabled:
        raise NoDeployment(f"All deployments of {model!r} are disabled.", model=model)
    return min(enabled, key=lambda route: route.deployment.priority)
