"""Tenants as operators handle them, in PostgreSQL."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from meshwright_common.events import audit
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unit_of_work, unscoped
from meshwright_session.adapters.postgres_sessions import SOURCE
from meshwright_session.adapters.tenant_rows import tenant_from
from meshwright_session.domain.acts import Act
from meshwright_session.domain.directory_models import Agreed, Tenant, TenantChange
from meshwright_session.domain.errors import TenantDeleting, TenantNotFound


class PostgresTenants:
    """`TenantStore` on the table `tenants`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def update(self, tenant_id: str, change: TenantChange, act: Act) -> Tenant:
        async with unit_of_work(self._database, tenant_id) as connection:
            row = await connection.fetchrow(_LOCK, tenant_id)
            if row is None:
                raise TenantNotFound
            before = tenant_from(row)
            if before.state == "deleting":
                raise TenantDeleting
            after = _changed(before, change)
            if after == before:
                return before
            agreed = after.agreed
            await connection.execute(
                _UPDATE,
                tenant_id,
                after.plan,
                after.state,
                after.display_name,
                agreed.sessions,
                agreed.tokens_per_day,
                agreed.documents,
                agreed.storage_bytes,
                agreed.concurrent_turns,
                None if agreed.models is None else list(agreed.models),
                agreed.cost_micro_usd_per_day,
            )
            await audit.record(
                connection,
                source=SOURCE,
                action=act.action,
                resource=act.resource,
                details=act.details,
                tenant_id=tenant_id,
            )
            return after

    async def list(self, name: str, after_slug: str, limit: int) -> Sequence[Tenant]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(
                "SELECT * FROM list_tenants($1, $2, $3)", name, after_slug, limit
            )
        return [tenant_from(row) for row in rows]

    async def sessions(self, tenant_id: str) -> int:
        async with unit_of_work(self._database, tenant_id) as connection:
            return int(await connection.fetchval(_SESSIONS, tenant_id))

    async def used_today(self, tenant_id: str) -> tuple[int, int]:
        async with unit_of_work(self._database, tenant_id) as connection:
            row = await connection.fetchrow(_USED_TODAY, tenant_id)
        return (0, 0) if row is None else (row["tokens"], row["micro_usd"])


def _changed(before: Tenant, change: TenantChange) -> Tenant:
    wanted = {name: getattr(change.agreed, name) for name in change.agreed_fields}
    agreed: Agreed = replace(before.agreed, **wanted)
    state = before.state
    if change.suspended is not None:
        state = "suspended" if change.suspended else "active"
    return replace(
        before,
        plan=change.plan or before.plan,
        state=state,
        display_name=(before.display_name if change.display_name is None else change.display_name),
        agreed=agreed,
    )


_LOCK: Final = "SELECT * FROM tenants WHERE tenant_id = $1 FOR NO KEY UPDATE"

_UPDATE: Final = """
UPDATE tenants
   SET plan = $2, state = $3, display_name = $4, max_sessions = $5, max_tokens_per_day = $6,
       max_documents = $7, max_storage_bytes = $8, max_concurrent_turns = $9, allowed_models = $10,
       max_cost_micro_usd_per_day = $11
 WHERE tenant_id = $1
"""

_SESSIONS: Final = """
SELECT coalesce((SELECT c.sessions FROM session_counts c WHERE c.tenant_id = $1),
                (SELECT count(*) FROM sessions s WHERE s.tenant_id = $1))
"""

_USED_TODAY: Final = """
SELECT coalesce(sum(counted_tokens), 0)::bigint AS tokens,
       coalesce(sum(counted_micro_usd), 0)::bigint AS micro_usd
  FROM usage_daily
 WHERE tenant_id = $1 AND day = (now() AT TIME ZONE 'UTC')::date
"""
