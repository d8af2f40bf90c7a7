"""Which models the caller's tenant may use, and whether it may use any at the moment."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from meshwright_common.context import principal
from meshwright_model_router.domain.catalogue import Catalogue, Deployment, Route
from meshwright_model_router.domain.errors import ModelNotAllowed
from meshwright_model_router.domain.ports import ChatProvider, EmbeddingProvider

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
    """Finds models for the current caller. Those named `always` are in every plan."""

    def __init__(self, catalogue: Catalogue, quotas: Quotas, *, always: frozenset[str]) -> None:
        self._catalogue = catalogue
        self._quotas = quotas
        self._always = always

    async def chat(self, name: str) -> Route[ChatProvider]:
        """Return who generates for `name`; "" is the default, or the first one that is allowed.

        Raises: ModelNotFound, ModelNotAllowed; as `Quotas.admit`.
        """
        quota = await self._quotas.admit(principal().tenant_id)
        route = self._catalogue.find_chat(name)
        if self._allows(quota, route.deployment, name):
            return route
        if not name:
            # The default is beyond the plan: what is not named may be any that is not.
            for other in self._catalogue.chat_deployments:
                if not other.is_pattern and self._is_chosen(quota, other):
                    return self._catalogue.find_chat(other.name)
        raise self._refusal(quota, name or route.deployment.name)

    async def embedding(self, name: str) -> Route[EmbeddingProvider]:
        """Return who embeds for `name`; "" is the default, which every plan has.

        Raises: as `chat`.
        """
        quota = await self._quotas.admit(principal().tenant_id)
        route = self._catalogue.find_embedding(name)
        if self._allows(quota, route.deployment, name):
            return route
        raise self._refusal(quota, name)

    async def allowed(self) -> Sequence[Deployment]:
        """Return what the caller's tenant may name, by name; patterns are no names."""
        quota = await self._quotas.of(principal().tenant_id)
        both = (*self._catalogue.chat_deployments, *self._catalogue.embedding_deployments)
        return sorted(
            (one for one in both if not one.is_pattern and self._allows(quota, one, one.name)),
            key=lambda one: one.name,
        )

    def _allows(self, quota: Quota, deployment: Deployment, asked: str) -> bool:
        # An alias such as "fast" is as small as the model behind it.
        names = (asked or deployment.name, deployment.provider_model(asked))
        return deployment.name in self._always or any(map(quota.allows_model, names))

    def _is_chosen(self, quota: Quota, deployment: Deployment) -> bool:
        # The built-in model answers when it is asked, never in the place of a real one.
        return deployment.name not in self._always and self._allows(
            quota, deployment, deployment.name
        )

    def _refusal(self, quota: Quota, name: str) -> ModelNotAllowed:
        return ModelNotAllowed(
            model=name, plan=quota.plan, allowed=", ".join(quota.models) or "all"
        )
