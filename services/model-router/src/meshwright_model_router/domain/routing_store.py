"""What administration needs from where tenants' deployments, policies and prices are kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from meshwright_model_router.domain.pricing import PricePeriod
from meshwright_model_router.domain.routing import RoutingPolicy
from meshwright_model_router.domain.routing_records import DeploymentRecord, PolicyRecord


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """What makes a creation repeatable. `key`: who asked, by which id; `digest`: for what."""

    key: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class TenantRouting:
    """All that a tenant has now. Prices are in the deployments' histories."""

    deployments: tuple[DeploymentRecord, ...] = ()
    policies: tuple[PolicyRecord, ...] = ()

    def deployment(self, name: str) -> DeploymentRecord | None:
        """Return the tenant's deployment of a name."""
        return next((one for one in self.deployments if one.name == name), None)

    def policy(self, name: str) -> PolicyRecord | None:
        """Return the tenant's policy of a name."""
        return next((one for one in self.policies if one.policy.name == name), None)


@dataclass(frozen=True, slots=True)
class PriceRow:
    """A price of a deployment, which may be gone."""

    deployment: str
    period: PricePeriod


class RoutingStore(Protocol):
    """Deployments, policies and prices of tenants. Changes of one tenant take turns.

    `judge` gets what the tenant has now, inside the transaction, and raises to refuse the change.
    Each change leaves an audit record and wakes the replicas.
    """

    async def read(self, tenant_id: str) -> TenantRouting:
        """Return all that a tenant has."""
        ...

    async def create_deployment(
        self,
        tenant_id: str,
        record: DeploymentRecord,
        request: CreateRequest | None,
        judge: Callable[[TenantRouting], None],
    ) -> DeploymentRecord:
        """Store a new one, or return what the same request made before.

        Raises: DeploymentExists; RequestIdReused; what `judge` raises.
        """
        ...

    async def update_deployment(
        self,
        tenant_id: str,
        name: str,
        change: Callable[[DeploymentRecord], DeploymentRecord],
    ) -> DeploymentRecord:
        """Replace one by what `change` makes of it. Raises: DeploymentNotFound."""
        ...

    async def delete_deployment(self, tenant_id: str, name: str) -> None:
        """Remove one; nothing happens when it is not there."""
        ...

    async def set_policy(
        self,
        tenant_id: str,
        policy: RoutingPolicy,
        judge: Callable[[TenantRouting], None],
    ) -> PolicyRecord:
        """Store a policy in the place of the one with its name."""
        ...

    async def delete_policy(self, tenant_id: str, name: str) -> None:
        """Remove one; nothing happens when it is not there."""
        ...

    async def set_price(self, tenant_id: str, name: str, period: PricePeriod) -> PricePeriod:
        """Add a price, or replace the one that begins at the same time.

        Raises: DeploymentNotFound; FailedPrecondition for more than there may be.
        """
        ...

    async def prices(self, tenant_id: str) -> Sequence[PriceRow]:
        """Return all prices that the tenant set, those of removed deployments included."""
        ...
