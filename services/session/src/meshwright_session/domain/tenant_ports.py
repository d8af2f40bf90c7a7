"""What the rules about tenants need from the store, and from the services that count for us."""

from collections.abc import Sequence
from typing import Protocol

from meshwright_session.domain.acts import Act
from meshwright_session.domain.directory_models import Tenant, TenantChange
from meshwright_session.domain.tenant_models import Use
from meshwright_session.domain.usage_models import UsageRow


class TenantStore(Protocol):
    """Tenants as operators handle them. Every method is one transaction."""

    async def update(self, tenant_id: str, change: TenantChange, act: Act) -> Tenant:
        """Change a tenant and report `act`; nothing is reported when nothing changes.

        Raises: TenantNotFound; TenantDeleting when it is being erased.
        """
        ...

    async def list(self, name: str, after_slug: str, limit: int) -> Sequence[Tenant]:
        """Return up to `limit` tenants after a slug, by slug; with `name`, of this slug or id."""
        ...

    async def sessions(self, tenant_id: str) -> int:
        """Return how many sessions the tenant has."""
        ...

    async def used_today(self, tenant_id: str) -> tuple[int, int]:
        """Return what budgets count of the current UTC day: tokens, millionths of a US dollar."""
        ...


class TokenWatch(Protocol):
    """Looks at tokens inside the transaction in which the ledger was written."""

    async def look(self, rows: Sequence[UsageRow]) -> None:
        """Tell administrators if the day's tokens with these rows reach a share of the limit."""
        ...


class UseElsewhere(Protocol):
    """What a tenant uses at the services that own it. None: that service is away."""

    async def of(self, tenant_id: str) -> Use:
        """Ask them all at once, for a short time."""
        ...
