"""Tenants as their operator handles them, and what they may use."""

from dataclasses import replace

from meshwright_session.domain import paging
from meshwright_session.domain.acts import Act
from meshwright_session.domain.directory_models import Tenant, TenantChange
from meshwright_session.domain.models import JsonObject
from meshwright_session.domain.paging import Page, PageRequest
from meshwright_session.domain.plans import Plans
from meshwright_session.domain.ports import Directory
from meshwright_session.domain.tenant_models import Quota, Use
from meshwright_session.domain.tenant_ports import TenantStore, UseElsewhere


class Tenants:
    """The use cases. `elsewhere` None: nobody can be asked what is used outside this service."""

    def __init__(
        self,
        directory: Directory,
        store: TenantStore,
        plans: Plans,
        elsewhere: UseElsewhere | None,
    ) -> None:
        self._directory = directory
        self._store = store
        self._plans = plans
        self._elsewhere = elsewhere

    async def update(self, tenant_id: str, change: TenantChange) -> Tenant:
        """Change what an operator may change. Raises: TenantNotFound, TenantDeleting."""
        act = Act(_action(change), f"tenant/{tenant_id}", _details(change))
        return await self._store.update(tenant_id, change, act)

    async def list(self, name: str, page: PageRequest) -> Page[Tenant]:
        """Return a page of the tenants by slug; with `name`, those of this slug or id."""
        scope = ("tenants", name)
        position = paging.decode(scope, page.token, (str,))
        after = "" if position is None else str(position[0])
        rows = await self._store.list(name, after, page.size + 1)
        rows, last = paging.cut(rows, page.size)
        return Page(rows, "" if last is None else paging.encode(scope, (last.slug,)))

    async def quota(self, tenant_id: str, *, for_admission: bool) -> Quota:
        """Return limits and what is used of them. Raises: TenantNotFound.

        `for_admission`: only what is limited and counted here, for somebody who waits.
        """
        tenant = await self._directory.get_tenant(tenant_id)
        limits = self._plans.limits_of(tenant.plan, tenant.agreed)
        used = Use()
        if not for_admission and self._elsewhere is not None:
            used = await self._elsewhere.of(tenant_id)
        if limits.tokens_per_day or not for_admission:
            tokens, micro_usd = await self._store.used_today(tenant_id)
            used = replace(used, tokens_today=tokens, cost_micro_usd_today=micro_usd)
        if limits.sessions or not for_admission:
            used = replace(used, sessions=await self._store.sessions(tenant_id))
        return Quota(tenant, limits, used, self._plans.alert_percents)


def _action(change: TenantChange) -> str:
    if change.suspended is None:
        return "tenant.updated"
    return "tenant.suspended" if change.suspended else "tenant.resumed"


def _details(change: TenantChange) -> JsonObject:
    details: dict[str, object] = {}
    if change.plan is not None:
        details["plan"] = change.plan
    if change.suspended is not None:
        details["suspended"] = change.suspended
    if change.display_name is not None:
        details["display_name_changed"] = True
    for name in sorted(change.agreed_fields):
        value = getattr(change.agreed, name)
        details[f"agreed.{name}"] = list(value) if isinstance(value, tuple) else value
    return details
