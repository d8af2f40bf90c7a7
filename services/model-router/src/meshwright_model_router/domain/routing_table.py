"""From a model's name to its deployments and the policy that rules: one tenant's view, in memory.

A table never changes: a change of what exists makes another one. Who holds a table, for one call
say, sees one state of the world.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any, Final, Generic, Literal, TypeVar, overload

from meshwright_model_router.domain.catalogue import WILDCARD, Deployment, Route
from meshwright_model_router.domain.errors import ModelNotFound
from meshwright_model_router.domain.policy_rules import Rules
from meshwright_model_router.domain.ports import ChatProvider, EmbeddingProvider
from meshwright_model_router.domain.ports_other import ModerationProvider, RerankProvider
from meshwright_model_router.domain.pricing import NO_PRICES
from meshwright_model_router.domain.routing import RoutingPolicy
from meshwright_model_router.domain.routing_records import DeploymentRecord, Providers, Served
from meshwright_model_router.domain.routing_store import TenantRouting
from meshwright_model_router.domain.usage import Operation

P_co = TypeVar("P_co", covariant=True)

OPERATORS_POLICY: Final = RoutingPolicy()
"""What rules a model that no policy names."""


@dataclass(frozen=True, slots=True)
class Resolved(Generic[P_co]):
    """The deployments of a model, also those that take no calls, and how one is chosen.

    `model` is the name that was asked for, or the default's. `ruled_by`: name of the tenant's
    policy; "" when it is the operator's.
    """

    model: str
    policy: RoutingPolicy
    routes: tuple[Route[P_co], ...]
    ruled_by: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """A model by the name that clients use, and what serves it. A pattern's name ends with `*`."""

    model: str
    deployments: tuple[Deployment, ...]

    @property
    def is_pattern(self) -> bool:
        """True when the name stands for every name with its prefix."""
        return self.model.endswith(WILDCARD)

    @property
    def operations(self) -> frozenset[Operation]:
        """What the model is for."""
        return frozenset().union(*(one.operations for one in self.deployments))


@dataclass(frozen=True, slots=True)
class Operated:
    """What the operator configured: the same for every tenant.

    `defaults`: the model meant when nobody names one. `everywhere`: models that every plan has,
    because the platform itself works with them.
    """

    served: tuple[Served, ...] = ()
    policies: tuple[RoutingPolicy, ...] = ()
    defaults: Mapping[Operation, str] = field(default_factory=dict)
    everywhere: frozenset[str] = frozenset()


class RoutingTable:
    """One tenant's models: the operator's and its own."""

    def __init__(
        self,
        operated: Operated,
        own: Sequence[Served] = (),
        policies: Sequence[RoutingPolicy] = (),
    ) -> None:
        """`own` and `policies` are the tenant's. Of two of one name the tenant's is in its view."""
        self._defaults = dict(operated.defaults)
        self.everywhere = operated.everywhere
        self._operators_rules = Rules(operated.policies)
        self._own_rules = Rules(policies)
        self._policies = (*operated.policies, *policies)
        names = {served.deployment.name for served in own}
        seen = [*own, *(one for one in operated.served if one.deployment.name not in names)]
        self._records = {
            one.deployment.name: one.record
            for one in sorted(seen, key=lambda one: one.deployment.name)
        }
        self._models = {
            operation: _Models(
                [one for one in seen if operation in one.deployment.operations], operation
            )
            for operation in Operation
        }
        self._offers = _offers(seen)
        self._known: dict[tuple[str, Operation], Resolved[Any]] = {}

    @overload
    def resolve(
        self, model: str, operation: Literal[Operation.GENERATE]
    ) -> Resolved[ChatProvider]: ...

    @overload
    def resolve(
        self, model: str, operation: Literal[Operation.EMBED]
    ) -> Resolved[EmbeddingProvider]: ...

    @overload
    def resolve(
        self, model: str, operation: Literal[Operation.RERANK]
    ) -> Resolved[RerankProvider]: ...

    @overload
    def resolve(
        self, model: str, operation: Literal[Operation.MODERATE]
    ) -> Resolved[ModerationProvider]: ...

    @overload
    def resolve(self, model: str, operation: Operation) -> Resolved[object]: ...

    def resolve(self, model: str, operation: Operation) -> Resolved[Any]:
        """Return the deployments of `model` for a purpose, and its policy; "" is the default model.

        Deployments of the very name win over those of a pattern, a longer pattern over a shorter
        one. Raises: ModelNotFound, which lists the models that there are.
        """
        wanted = model or self.default(operation)
        known = self._known.get((wanted, operation))
        if known is not None:
            return known
        models = self._models[operation]
        found = models.find(wanted)
        if not found:
            raise ModelNotFound.among(wanted, models.names, purpose=operation.value)
        resolved = self._resolved(wanted, operation, found)
        if wanted in models.exact:
            # Only these are finitely many.
            self._known[wanted, operation] = resolved
        return resolved

    def default(self, operation: Operation) -> str:
        """Return the model meant when nobody names one; "": there is none."""
        configured = self._defaults.get(operation, "")
        return configured or next(iter(self._models[operation].exact), "")

    def policy_of(self, model: str) -> tuple[RoutingPolicy, str]:
        """Return the policy that rules `model`, and its name if it is the tenant's, else ""."""
        own = self._own_rules.find(model)
        if own is not None:
            return own, own.name
        return self._operators_rules.find(model) or OPERATORS_POLICY, ""

    @property
    def offers(self) -> tuple[Offer, ...]:
        """All models by name, patterns included."""
        return self._offers

    def models(self, operation: Operation) -> tuple[str, ...]:
        """Return the names of models for a purpose, in order, patterns included."""
        return self._models[operation].names

    @property
    def records(self) -> Mapping[str, DeploymentRecord]:
        """All deployments by name, in the order of names."""
        return self._records

    @cached_property
    def version(self) -> str:
        """A digest of all that this table says: the same on every replica, another after a change.

        Prices are not part of it.
        """
        deployments = [
            (replace(one.deployment, prices=NO_PRICES), one.base_url)
            for one in self._records.values()
        ]
        said = repr((deployments, self._policies, sorted(self._defaults.items())))
        return blake2b(said.encode(), digest_size=12).hexdigest()

    def _resolved(
        self, model: str, operation: Operation, found: Sequence[Served]
    ) -> Resolved[object]:
        policy, ruled_by = self.policy_of(model)
        operators = self._operators_rules.find(model) or OPERATORS_POLICY
        routes = tuple(
            Route(
                one.deployment,
                _provider(one.providers, operation),
                one.deployment.model_for(model),
                policy.cool_down if one.deployment.tenant_id else operators.cool_down,
            )
            for one in found
        )
        return Resolved(model, policy, routes, ruled_by)


class _Models:
    """Models for one purpose."""

    def __init__(self, served: Sequence[Served], operation: Operation) -> None:
        self.exact: dict[str, list[Served]] = {}
        patterns: dict[str, list[Served]] = {}
        for one in served:
            if _provider(one.providers, operation) is None:
                continue
            kept = patterns if one.deployment.is_pattern else self.exact
            kept.setdefault(one.deployment.model, []).append(one)
        self._patterns = sorted(
            patterns.values(), key=lambda found: -len(found[0].deployment.model)
        )
        self.names = tuple(sorted([*self.exact, *patterns]))

    def find(self, model: str) -> Sequence[Served]:
        found = self.exact.get(model)
        if found is not None:
            return found
        for serving in self._patterns:
            if serving[0].deployment.serves(model):
                return serving
        return ()


def _offers(served: Iterable[Served]) -> tuple[Offer, ...]:
    by_model: dict[str, list[Deployment]] = {}
    for one in served:
        by_model.setdefault(one.deployment.model, []).append(one.deployment)
    return tuple(Offer(model, tuple(by_model[model])) for model in sorted(by_model))


def _provider(providers: Providers, operation: Operation) -> object:
    match operation:
        case Operation.GENERATE:
            return providers.chat
        case Operation.EMBED:
            return providers.embedding
        case Operation.RERANK:
            return providers.rerank
        case Operation.MODERATE:
            return providers.moderation


class RoutingTables:
    """The tables of all tenants, in memory and at most as old as the last `put_…`.

    `serve` makes the ways to a tenant's deployment when it is looked at first.
    """

    def __init__(
        self, operated: Operated, serve: Callable[[DeploymentRecord], Served] | None = None
    ) -> None:
        self._operated = operated
        self._serve = serve or _unserved
        self._routings: dict[str, TenantRouting] = {}
        self._common = RoutingTable(operated)
        self._tables: dict[str, RoutingTable] = {}

    def of(self, tenant_id: str) -> RoutingTable:
        """Return a tenant's table as it is now."""
        routing = self._routings.get(tenant_id)
        if routing is None:
            return self._common
        table = self._tables.get(tenant_id)
        if table is None:
            own = [self._serve(record) for record in routing.deployments]
            policies = [record.policy for record in routing.policies]
            table = self._tables[tenant_id] = RoutingTable(self._operated, own, policies)
        return table

    @property
    def operated(self) -> Operated:
        """What the operator configured."""
        return self._operated

    def put_operated(self, operated: Operated) -> None:
        """Replace what the operator configured; calls under way keep what they hold."""
        self._operated = operated
        self._common = RoutingTable(operated)
        self._tables.clear()

    def put_tenant(self, tenant_id: str, routing: TenantRouting) -> None:
        """Replace what a tenant made; one that has nothing is a tenant like any other."""
        self._tables.pop(tenant_id, None)
        if routing.deployments or routing.policies:
            self._routings[tenant_id] = routing
        else:
            self._routings.pop(tenant_id, None)

    @property
    def tenants(self) -> tuple[str, ...]:
        """Tenants that made something of their own."""
        return tuple(self._routings)


def _unserved(record: DeploymentRecord) -> Served:
    return Served(record, Providers())
