"""Changing and reading what a tenant adds to the operator's deployments and policies."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final, Protocol

from meshwright_common.clock import Clock
from meshwright_common.errors import invalid
from meshwright_model_router.domain.access import Quotas
from meshwright_model_router.domain.catalogue import WILDCARD, Deployment
from meshwright_model_router.domain.errors import ModelNotFound
from meshwright_model_router.domain.permits import Permits, Place
from meshwright_model_router.domain.pricing import PricePeriod, Prices
from meshwright_model_router.domain.routing import RoutingPolicy
from meshwright_model_router.domain.routing_errors import (
    DeploymentExists,
    DeploymentNotFound,
    EtagOld,
    ModelHasPolicy,
    OperatorsDeployment,
    TooMany,
)
from meshwright_model_router.domain.routing_records import DeploymentRecord, PolicyRecord
from meshwright_model_router.domain.routing_store import (
    CreateRequest,
    PriceRow,
    RoutingStore,
    TenantRouting,
)
from meshwright_model_router.domain.routing_table import RoutingTables

MAX_DEPLOYMENTS: Final = 200
MAX_POLICIES: Final = 200

JudgeHost = Callable[[str, int], Awaitable[None]]
"""Raises EgressRefused when a host has an address that is not public."""


class OperatorsWord(Protocol):
    """What the operator's configuration says about tenants' deployments, now."""

    @property
    def permits(self) -> Permits:
        """Where they may go, and with whose keys."""
        ...

    def address_of(self, record: DeploymentRecord) -> str:
        """Return where a deployment is: its own address, or its provider's.

        Raises: InvalidArgument naming base_url when there is none.
        """
        ...

    def list_prices(self, record: DeploymentRecord) -> Sequence[PricePeriod]:
        """Return the prices of the shipped list for a deployment nobody gave a price."""
        ...


class RoutingAdministration:
    """The use cases behind RoutingService, but for health and explanations."""

    def __init__(
        self,
        store: RoutingStore,
        tables: RoutingTables,
        quotas: Quotas,
        word: OperatorsWord,
        judge_host: JudgeHost,
        clock: Clock,
    ) -> None:
        self._store = store
        self._tables = tables
        self._quotas = quotas
        self._word = word
        self._judge_host = judge_host
        self._clock = clock

    async def create_deployment(
        self, record: DeploymentRecord, request: CreateRequest | None
    ) -> DeploymentRecord:
        """Create a deployment of the tenant that its `deployment.tenant_id` names.

        Raises: DeploymentExists, EgressRefused, ProviderCredentials, RequestIdReused, TooMany,
        InvalidArgument.
        """
        if self._operators(record.name) is not None:
            raise DeploymentExists(deployment=record.name)
        await self._judge(record)

        def judge(routing: TenantRouting) -> None:
            if len(routing.deployments) >= MAX_DEPLOYMENTS:
                raise TooMany(limit=str(MAX_DEPLOYMENTS), what="deployments")

        return await self._store.create_deployment(
            record.deployment.tenant_id, record, request, judge
        )

    async def deployment(self, tenant_id: str, name: str) -> DeploymentRecord:
        """Return one deployment. Raises: DeploymentNotFound."""
        for one in await self.deployments(tenant_id):
            if one.name == name:
                return one
        raise DeploymentNotFound(deployment=name)

    async def deployments(self, tenant_id: str, model: str = "") -> Sequence[DeploymentRecord]:
        """Return what the tenant may use, by name; of one model, if one is named.

        Of the operator's, the addresses and the names of keys stay the operator's.
        """
        routing = await self._store.read(tenant_id)
        quota = await self._quotas.of(tenant_id)
        everywhere = self._tables.operated.everywhere
        own = {one.name for one in routing.deployments}
        operators = [
            DeploymentRecord(one.deployment)
            for one in self._tables.operated.served
            if one.deployment.name not in own
            and (
                one.deployment.is_pattern
                or one.deployment.model in everywhere
                or any(map(quota.allows_model, one.deployment.plan_names(one.deployment.model)))
            )
        ]
        found = sorted([*routing.deployments, *operators], key=lambda one: one.name)
        return [one for one in found if not model or _is_of(one.deployment, model)]

    async def update_deployment(
        self,
        tenant_id: str,
        name: str,
        etag: str,
        change: Callable[[DeploymentRecord], DeploymentRecord],
    ) -> DeploymentRecord:
        """Change a deployment. `etag` "": whatever it is.

        Raises: DeploymentNotFound, OperatorsDeployment, EtagOld, EgressRefused,
        ProviderCredentials, InvalidArgument.
        """
        before = (await self._store.read(tenant_id)).deployment(name)
        if before is None:
            self._refuse_operators(name)
            raise DeploymentNotFound(deployment=name)
        # Names are looked up before the transaction: nothing waits for DNS while it holds a lock.
        await self._judge(change(before))

        def checked(current: DeploymentRecord) -> DeploymentRecord:
            _check_etag(etag, current.revision)
            after = change(current)
            self._word.permits.check(tenant_id, self._word.address_of(after), after.credential_name)
            return after

        return await self._store.update_deployment(tenant_id, name, checked)

    async def delete_deployment(self, tenant_id: str, name: str) -> None:
        """Remove a deployment. Raises: OperatorsDeployment."""
        if (await self._store.read(tenant_id)).deployment(name) is None:
            self._refuse_operators(name)
        await self._store.delete_deployment(tenant_id, name)

    async def set_policy(self, tenant_id: str, policy: RoutingPolicy, etag: str) -> PolicyRecord:
        """Create a policy or replace the one of its name.

        Raises: ModelNotFound, ModelHasPolicy, EtagOld, TooMany.
        """

        def judge(routing: TenantRouting) -> None:
            before = routing.policy(policy.name)
            if etag:
                _check_etag(etag, before.revision if before is not None else 0)
            if before is None and len(routing.policies) >= MAX_POLICIES:
                raise TooMany(limit=str(MAX_POLICIES), what="policies")
            self._check_models(policy, routing)
            _check_other_policies(policy, routing)

        return await self._store.set_policy(tenant_id, policy, judge)

    async def policies(self, tenant_id: str) -> Sequence[PolicyRecord]:
        """Return the tenant's policies by name."""
        return (await self._store.read(tenant_id)).policies

    async def delete_policy(self, tenant_id: str, name: str) -> None:
        """Remove a policy; nothing happens when it is not there."""
        await self._store.delete_policy(tenant_id, name)

    async def set_price(
        self, tenant_id: str, name: str, prices: Prices, since: datetime | None
    ) -> PricePeriod:
        """Say what a deployment costs from `since` on; None: from now on.

        Raises: DeploymentNotFound, OperatorsDeployment, InvalidArgument when `since` has passed.
        """
        now = self._clock.now()
        if since is not None and since < now:
            raise invalid("price.effective_time", "has passed: prices of the past do not change")
        if (await self._store.read(tenant_id)).deployment(name) is None:
            self._refuse_operators(name)
            raise DeploymentNotFound(deployment=name)
        period = PricePeriod(since or now, prices, builtin=False)
        return await self._store.set_price(tenant_id, name, period)

    async def prices(
        self, tenant_id: str, name: str = "", at: datetime | None = None
    ) -> Sequence[PriceRow]:
        """Return prices by deployment, newest first: the tenant's, the operator's, the list's.

        `name`: of one deployment; `at`: only those in force then. Raises: DeploymentNotFound.
        """
        rows = list(await self._store.prices(tenant_id))
        live = await self.deployments(tenant_id)
        for record in live:
            if record.deployment.tenant_id:
                set_ = [one.period for one in rows if one.deployment == record.name]
                periods = until_first(self._word.list_prices(record), set_)
            else:
                periods = record.deployment.prices.periods
            rows += [PriceRow(record.name, one) for one in periods]
        if name:
            rows = [one for one in rows if one.deployment == name]
            if not rows and all(one.name != name for one in live):
                raise DeploymentNotFound(deployment=name)
        if at is not None:
            rows = _in_force(rows, at)
        rows.sort(key=lambda one: one.period.since, reverse=True)
        return sorted(rows, key=lambda one: one.deployment)

    def _operators(self, name: str) -> Deployment | None:
        return next(
            (one.deployment for one in self._tables.operated.served if one.deployment.name == name),
            None,
        )

    def _refuse_operators(self, name: str) -> None:
        if self._operators(name) is not None:
            raise OperatorsDeployment(deployment=name)

    async def _judge(self, record: DeploymentRecord) -> None:
        """Raise when the operator does not let a deployment be where it is."""
        permits = self._word.permits
        address = self._word.address_of(record)
        permits.check(record.deployment.tenant_id, address, record.credential_name)
        place = Place.of(address)
        if not permits.is_private(place):
            await self._judge_host(place.host, place.port)

    def _check_models(self, policy: RoutingPolicy, routing: TenantRouting) -> None:
        deployments = [
            *(one.deployment for one in routing.deployments),
            *(one.deployment for one in self._tables.operated.served),
        ]
        known = sorted({one.model for one in deployments})
        for model in (*policy.models, *policy.fallback_models):
            if not any(_is_of(one, model) for one in deployments):
                raise ModelNotFound.among(model, known, purpose="be routed")


def until_first(listed: Sequence[PricePeriod], own: Sequence[PricePeriod]) -> Sequence[PricePeriod]:
    """Return the listed prices from before the first own one: that and what follows count."""
    first = min((one.since for one in own), default=None)
    return [one for one in listed if first is None or one.since < first]


def _in_force(rows: Sequence[PriceRow], at: datetime) -> list[PriceRow]:
    newest: dict[str, PriceRow] = {}
    for row in rows:
        before = newest.get(row.deployment)
        if row.period.since <= at and (before is None or before.period.since < row.period.since):
            newest[row.deployment] = row
    return list(newest.values())


def _is_of(deployment: Deployment, model: str) -> bool:
    """Return whether a model, or a pattern of models, is one of a deployment's."""
    if model.endswith(WILDCARD):
        return deployment.model == model or deployment.model.startswith(model[:-1])
    return deployment.serves(model)


def _check_etag(etag: str, revision: int) -> None:
    if etag and etag != str(revision):
        raise EtagOld(etag=str(revision))


def _check_other_policies(policy: RoutingPolicy, routing: TenantRouting) -> None:
    for other in (one.policy for one in routing.policies if one.policy.name != policy.name):
        if not policy.models and not other.models:
            raise ModelHasPolicy(policy=other.name, model="all models that no other names")
        shared = set(policy.models) & set(other.models)
        if shared:
            raise ModelHasPolicy(policy=other.name, model=min(shared))
