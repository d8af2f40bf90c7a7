"""What tenants change reaches memory: also what commits late, and what nobody announced."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import pytest_asyncio

from meshwright.model_router.v1 import deployment_pb2
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_model_router.adapters.change_feed import ChangeFeed
from meshwright_model_router.adapters.routing_feed import routing_feed
from meshwright_model_router.domain.routing_table import Operated, RoutingTables

if TYPE_CHECKING:
    from tests.routing.conftest import Replica

Connection = Any
POLICY = """
INSERT INTO model_router.routing_policies (tenant_id, name, models, strategy, sticky_by_session,
       fallback_models, max_attempts, consecutive_failures, error_rate, cool_down_seconds)
VALUES ($1, 'mine', '{}', $2, false, '{}', 3, 3, 0.2, 60)
"""


@pytest_asyncio.fixture
async def database(database_url: DatabaseSettings) -> AsyncIterator[Database]:
    async with open_database(database_url, "model-router") as opened:
        yield opened


@pytest.fixture
def tables() -> RoutingTables:
    return RoutingTables(Operated())


@pytest.fixture
def feed(database: Database, tables: RoutingTables) -> ChangeFeed:
    return ChangeFeed(database, [routing_feed(tables)])


async def add_policy(connection: Connection, tenant: str, strategy: str = "weighted") -> None:
    await connection.execute(POLICY, tenant, strategy)


@pytest.mark.asyncio
async def test_a_transaction_that_commits_after_a_younger_one_is_not_skipped(
    database: Database, tables: RoutingTables, feed: ChangeFeed
) -> None:
    late, early = new_id(), new_id()
    await feed.refresh()
    async with unit_of_work(database, late) as older:
        await add_policy(older, late)
        async with unit_of_work(database, early) as younger:
            await add_policy(younger, early)
        await feed.refresh()
        assert set(tables.tenants) == {early}
    await feed.refresh()
    assert set(tables.tenants) == {early, late}


@pytest.mark.asyncio
async def test_what_is_gone_is_forgotten_and_only_changes_are_read(
    database: Database, tables: RoutingTables, feed: ChangeFeed
) -> None:
    tenant = new_id()
    async with unit_of_work(database, tenant) as connection:
        await add_policy(connection, tenant)
    await feed.refresh()
    held = tables.of(tenant)
    await feed.refresh()
    assert tables.of(tenant) is held
    async with unit_of_work(database, tenant) as connection:
        await connection.execute(
            "DELETE FROM model_router.routing_policies WHERE tenant_id = $1", tenant
        )
    await feed.refresh()
    assert tables.tenants == ()


@pytest.mark.asyncio
async def test_a_row_of_a_newer_version_leaves_its_tenant_as_it_was(
    database: Database, tables: RoutingTables, feed: ChangeFeed
) -> None:
    tenant, other = new_id(), new_id()
    async with unit_of_work(database, tenant) as connection:
        await add_policy(connection, tenant, "by_the_moon")
    async with unit_of_work(database, other) as connection:
        await add_policy(connection, other)
    await feed.refresh()
    assert tables.tenants == (other,)


@pytest.mark.asyncio
async def test_what_nobody_announced_is_found_by_the_poll(
    one: Replica,
    mine: Callable[..., deployment_pb2.Deployment],
    database_url: DatabaseSettings,
    tenant: str,
) -> None:
    await one.create(tenant, mine())
    await one.in_force(tenant, "my-model", "mine")
    connection = await asyncpg.connect(database_url.url_for("model-router"))
    async with connection.transaction():
        await connection.execute(f"SET LOCAL app.tenant_id = '{tenant}'")
        await connection.execute(
            "UPDATE model_router.routing_deployments SET disabled = true WHERE tenant_id = $1",
            tenant,
        )
    await connection.close()
    await one.in_force(tenant, "my-model", "NO_DEPLOYMENT")


@pytest.mark.asyncio
async def test_the_service_cannot_see_other_tenants_rows(
    database: Database, feed: ChangeFeed
) -> None:
    tenant = new_id()
    async with unit_of_work(database, tenant) as connection:
        await add_policy(connection, tenant)
    async with unit_of_work(database, new_id()) as connection:
        assert await connection.fetch("SELECT FROM model_router.routing_policies") == []
        assert await connection.fetch("SELECT FROM model_router.routing_changes") == []
