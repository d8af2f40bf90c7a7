"""Tenants' deployments, policies and prices in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from meshwright_common.events import audit
from meshwright_common.ids import new_id
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_model_router.adapters.change_feed import announce_change
from meshwright_model_router.adapters.routing_rows import (
    DEPLOYMENT_COLUMNS,
    POLICY_COLUMNS,
    deployment_record,
    deployment_values,
    policy_record,
    policy_values,
    price_period,
    tenant_routing,
)
from meshwright_model_router.domain.pricing import PriceHistory, PricePeriod
from meshwright_model_router.domain.routing import RoutingPolicy
from meshwright_model_router.domain.routing_errors import (
    DeploymentExists,
    DeploymentNotFound,
    RequestIdReused,
    TooMany,
)
from meshwright_model_router.domain.routing_records import DeploymentRecord, PolicyRecord
from meshwright_model_router.domain.routing_store import CreateRequest, PriceRow, TenantRouting

SOURCE: Final = "model-router"
MAX_PRICES: Final = 1000
"""Prices of one deployment."""


class PostgresRouting:
    """Implements `RoutingStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, tenant_id: str) -> TenantRouting:
        async with unit_of_work(self._database, tenant_id) as connection:
            return await _read(connection, tenant_id)

    async def create_deployment(
        self,
        tenant_id: str,
        record: DeploymentRecord,
        request: CreateRequest | None,
        judge: Callable[[TenantRouting], None],
    ) -> DeploymentRecord:
        async with unit_of_work(self._database, tenant_id) as connection:
            await _take_turn(connection, tenant_id)
            if request is not None:
                before = await connection.fetchrow(_BY_REQUEST, tenant_id, request.key)
                if before is not None:
                    return await _made_before(connection, before, request)
            routing = await _read(connection, tenant_id)
            judge(routing)
            if routing.deployment(record.name) is not None:
                raise DeploymentExists(deployment=record.name)
            await connection.execute(_DROP_OLD_PRICES, tenant_id)
            await connection.execute(_DROP_OLD, tenant_id)
            [row] = await connection.fetch(
                _INSERT_DEPLOYMENT,
                tenant_id,
                new_id(),
                None if request is None else request.key,
                None if request is None else request.digest,
                *deployment_values(record),
            )
            await _report(connection, "deployment.created", f"deployment/{record.name}")
            return deployment_record(row, record.deployment.prices)

    async def update_deployment(
        self,
        tenant_id: str,
        name: str,
        change: Callable[[DeploymentRecord], DeploymentRecord],
    ) -> DeploymentRecord:
        async with unit_of_work(self._database, tenant_id) as connection:
            await _take_turn(connection, tenant_id)
            before = (await _read(connection, tenant_id)).deployment(name)
            if before is None:
                raise DeploymentNotFound(deployment=name)
            after = change(before)
            if after == before:
                return before
            [row] = await connection.fetch(_UPDATE_DEPLOYMENT, tenant_id, *deployment_values(after))
            await _report(connection, "deployment.changed", f"deployment/{name}")
            return deployment_record(row, after.deployment.prices)

    async def delete_deployment(self, tenant_id: str, name: str) -> None:
        async with unit_of_work(self._database, tenant_id) as connection:
            await _take_turn(connection, tenant_id)
            if await connection.fetchval(_DELETE_DEPLOYMENT, tenant_id, name):
                await _report(connection, "deployment.removed", f"deployment/{name}")

    async def set_policy(
        self,
        tenant_id: str,
        policy: RoutingPolicy,
        judge: Callable[[TenantRouting], None],
    ) -> PolicyRecord:
        async with unit_of_work(self._database, tenant_id) as connection:
            await _take_turn(connection, tenant_id)
            routing = await _read(connection, tenant_id)
            judge(routing)
            before = routing.policy(policy.name)
            if before is not None and before.policy == policy:
                return before
            [row] = await connection.fetch(_SET_POLICY, tenant_id, *policy_values(policy))
            await _report(connection, "routing_policy.set", f"routing_policy/{policy.name}")
            return policy_record(row)

    async def delete_policy(self, tenant_id: str, name: str) -> None:
        async with unit_of_work(self._database, tenant_id) as connection:
            await _take_turn(connection, tenant_id)
            if await connection.fetchval(_DELETE_POLICY, tenant_id, name):
                await _report(connection, "routing_policy.removed", f"routing_policy/{name}")

    async def set_price(self, tenant_id: str, name: str, period: PricePeriod) -> PricePeriod:
        prices = period.prices
        async with unit_of_work(self._database, tenant_id) as connection:
            await _take_turn(connection, tenant_id)
            deployment_id = await connection.fetchval(_DEPLOYMENT_ID, tenant_id, name)
            if deployment_id is None:
                raise DeploymentNotFound(deployment=name)
            if await connection.fetchval(_PRICE_COUNT, tenant_id, deployment_id) >= MAX_PRICES:
                raise TooMany(limit=str(MAX_PRICES), what="prices of a deployment")
            [row] = await connection.fetch(
                _SET_PRICE,
                tenant_id,
                deployment_id,
                period.since,
                prices.input,
                prices.cached_or_input,
                prices.output,
            )
            await _report(
                connection,
                "deployment_price.set",
                f"deployment/{name}",
                effective_time=period.since.isoformat(),
            )
            return price_period(row)

    async def prices(self, tenant_id: str) -> Sequence[PriceRow]:
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(_ALL_PRICES, tenant_id)
        return [PriceRow(row["name"], price_period(row)) for row in rows]


async def _take_turn(connection: Connection, tenant_id: str) -> None:
    """Hold the tenant's row until the end: of two changes one sees the other's."""
    await connection.execute(_TAKE_TURN, tenant_id)


async def _read(connection: Connection, tenant_id: str) -> TenantRouting:
    return tenant_routing(
        await connection.fetch(_DEPLOYMENTS, tenant_id),
        await connection.fetch(_PRICES, tenant_id),
        await connection.fetch(_POLICIES, tenant_id),
    )


async def _made_before(
    connection: Connection, row: Record, request: CreateRequest
) -> DeploymentRecord:
    if row["request_digest"] != request.digest:
        raise RequestIdReused
    if row["delete_time"] is not None:
        raise DeploymentNotFound(deployment=row["name"])
    made = (await _read(connection, row["tenant_id"])).deployment(row["name"])
    return made or deployment_record(row, PriceHistory())


async def _report(connection: Connection, action: str, resource: str, **details: object) -> None:
    await audit.record(connection, source=SOURCE, action=action, resource=resource, details=details)
    announce_change(connection)


_TAKE_TURN: Final = """
INSERT INTO model_router.routing_changes (tenant_id) VALUES ($1)
ON CONFLICT (tenant_id) DO UPDATE SET changed = pg_current_xact_id()
"""

_DEPLOYMENTS: Final = """
SELECT * FROM model_router.routing_deployments WHERE tenant_id = $1 AND delete_time IS NULL
"""

_PRICES: Final = "SELECT * FROM model_router.routing_prices WHERE tenant_id = $1"

_ALL_PRICES: Final = """
SELECT d.name, p.*
  FROM model_router.routing_prices p
  JOIN model_router.routing_deployments d
    ON d.tenant_id = p.tenant_id AND d.deployment_id = p.deployment_id
 WHERE p.tenant_id = $1
"""

_POLICIES: Final = "SELECT * FROM model_router.routing_policies WHERE tenant_id = $1"

_BY_REQUEST: Final = """
SELECT * FROM model_router.routing_deployments WHERE tenant_id = $1 AND request_key = $2
"""

# What was removed long ago explains no bill any more.
_DROP_OLD_PRICES: Final = """
DELETE FROM model_router.routing_prices p
 USING model_router.routing_deployments d
 WHERE p.tenant_id = $1 AND d.tenant_id = $1 AND d.deployment_id = p.deployment_id
   AND d.delete_time < now() - interval '400 days'
"""
_DROP_OLD: Final = """
DELETE FROM model_router.routing_deployments
 WHERE tenant_id = $1 AND delete_time < now() - interval '400 days'
"""

_DEPLOYMENT_ID: Final = """
SELECT deployment_id FROM model_router.routing_deployments
 WHERE tenant_id = $1 AND name = $2 AND delete_time IS NULL
"""

_COLUMNS: Final = ", ".join(DEPLOYMENT_COLUMNS)
_INSERT_DEPLOYMENT: Final = f"""
INSERT INTO model_router.routing_deployments
       (tenant_id, deployment_id, request_key, request_digest, {_COLUMNS})
VALUES ($1, $2, $3, $4, {", ".join(f"${n + 5}" for n in range(len(DEPLOYMENT_COLUMNS)))})
RETURNING *
"""  # noqa: S608 - constants of ours

_UPDATE_DEPLOYMENT: Final = f"""
UPDATE model_router.routing_deployments
   SET ({_COLUMNS}) = ROW ({", ".join(f"${n + 2}" for n in range(len(DEPLOYMENT_COLUMNS)))}),
       revision = revision + 1, update_time = now()
 WHERE tenant_id = $1 AND name = $2 AND delete_time IS NULL
RETURNING *
"""  # noqa: S608 - constants of ours

_DELETE_DEPLOYMENT: Final = """
UPDATE model_router.routing_deployments SET delete_time = now()
 WHERE tenant_id = $1 AND name = $2 AND delete_time IS NULL
RETURNING true
"""

_SET_POLICY: Final = f"""
INSERT INTO model_router.routing_policies AS p (tenant_id, {", ".join(POLICY_COLUMNS)})
VALUES ($1, {", ".join(f"${n + 2}" for n in range(len(POLICY_COLUMNS)))})
ON CONFLICT (tenant_id, name) DO UPDATE
   SET {", ".join(f"{name} = excluded.{name}" for name in POLICY_COLUMNS)},
       revision = p.revision + 1, update_time = now()
RETURNING *
"""  # noqa: S608 - constants of ours

_DELETE_POLICY: Final = """
DELETE FROM model_router.routing_policies WHERE tenant_id = $1 AND name = $2 RETURNING true
"""

_PRICE_COUNT: Final = """
SELECT count(*) FROM model_router.routing_prices WHERE tenant_id = $1 AND deployment_id = $2
"""

_SET_PRICE: Final = """
INSERT INTO model_router.routing_prices (tenant_id, deployment_id, effective_time,
       prompt_micro_usd, cached_micro_usd, completion_micro_usd)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id, deployment_id, effective_time) DO UPDATE
   SET prompt_micro_usd = excluded.prompt_micro_usd,
       cached_micro_usd = excluded.cached_micro_usd,
       completion_micro_usd = excluded.completion_micro_usd
RETURNING *
"""
