"""Policies, prices, audit and plans of tenants' deployments, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from meshwright.model_router.v1 import deployment_pb2
from meshwright.model_router.v1 import routing_service_pb2 as pb
from meshwright.session.v1 import tenant_pb2
from meshwright_common.errors import ServiceError
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.postgres import open_database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.mesh import calling_as
from meshwright_common.testing.waiting import eventually

if TYPE_CHECKING:
    from tests.routing.conftest import Replica

KEY = "sk-of-the-operator-000000"
Make = Callable[..., deployment_pb2.Deployment]
PERMISSIONS = ("route:read", "route:write", "model:invoke", "model:read")


@pytest.mark.asyncio
async def test_a_policy_is_stored_whole_and_a_model_is_in_one(one: Replica, tenant: str) -> None:
    policy = deployment_pb2.RoutingPolicy(
        name="cheap",
        models=["shared"],
        strategy=deployment_pb2.ROUTING_STRATEGY_LOWEST_COST,
        fallback_models=["offline"],
        sticky_by_session=True,
    )
    policy.hedge_after.FromMilliseconds(1500)
    with calling_as(tenant, *PERMISSIONS):

        async def refused(**fields: Any) -> str:
            fields.setdefault("name", "other")
            given = deployment_pb2.RoutingPolicy(**fields)
            with pytest.raises(ServiceError) as raised:
                await one.routing.SetPolicy(pb.SetPolicyRequest(policy=given))
            return raised.value.reason

        stored = (await one.routing.SetPolicy(pb.SetPolicyRequest(policy=policy))).policy
        assert stored.max_attempts == 3
        assert stored.cool_down.consecutive_failures == 3
        assert stored.cool_down.error_rate == pytest.approx(0.2)
        assert stored.cool_down.duration.seconds == 60
        assert stored.hedge_after.ToMilliseconds() == 1500
        assert await refused(models=["shared"]) == "ALREADY_EXISTS"
        assert await refused(models=["nothing"]) == "MODEL_NOT_FOUND"
        assert await refused(fallback_models=["nothing"]) == "MODEL_NOT_FOUND"
        assert await refused(models=["shared"], fallback_models=["shared"]) == "INVALID_ARGUMENT"
        assert await refused(max_attempts=6) == "INVALID_ARGUMENT"
        assert await refused(name="cheap", etag="9") == "CONFLICT"
        listed = await one.routing.ListPolicies(pb.ListPoliciesRequest())
        assert list(listed.policies) == [stored]
        for _ in range(2):
            await one.routing.DeletePolicy(pb.DeletePolicyRequest(name="cheap"))
        listed = await one.routing.ListPolicies(pb.ListPoliciesRequest())
        assert list(listed.policies) == []


@pytest.mark.asyncio
async def test_prices_have_a_history_and_the_past_does_not_change(
    one: Replica, mine: Make, tenant: str
) -> None:
    await one.create(tenant, mine())
    future = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    with calling_as(tenant, *PERMISSIONS):

        async def set_price(
            name: str, amount: int, since: datetime | None = None
        ) -> deployment_pb2.Price:
            price = deployment_pb2.Price(
                deployment=name,
                prompt_million_tokens_micro_usd=amount,
                cached_million_tokens_micro_usd=amount // 10,
                completion_million_tokens_micro_usd=amount * 4,
            )
            if since is not None:
                price.effective_time.FromDatetime(since)
            return (await one.routing.SetPrice(pb.SetPriceRequest(price=price))).price

        async def listed(at: datetime | None = None) -> list[int]:
            request = pb.ListPricesRequest(deployment="mine")
            if at is not None:
                request.time.FromDatetime(at)
            prices = (await one.routing.ListPrices(request)).prices
            return [one.prompt_million_tokens_micro_usd for one in prices]

        await set_price("mine", 1_000_000)
        await set_price("mine", 2_000_000, future)
        await set_price("mine", 3_000_000, future)
        assert await listed() == [3_000_000, 1_000_000]
        assert await listed(datetime.now(UTC)) == [1_000_000]
        assert await listed(future) == [3_000_000]
        for name, since, reason in (
            ("mine", datetime(2020, 1, 1, tzinfo=UTC), "INVALID_ARGUMENT"),
            ("base", None, "FAILED_PRECONDITION"),
            ("gone", None, "DEPLOYMENT_NOT_FOUND"),
        ):
            with pytest.raises(ServiceError) as raised:
                await set_price(name, 1, since)
            assert raised.value.reason == reason
        await one.routing.DeleteDeployment(pb.DeleteDeploymentRequest(name="mine"))
        assert await listed() == [3_000_000, 1_000_000]


@pytest.mark.asyncio
async def test_a_call_costs_what_was_in_force_when_it_began(
    one: Replica, database_url: DatabaseSettings, mine: Make, tenant: str
) -> None:
    await one.create(tenant, mine())
    price = deployment_pb2.Price(deployment="mine", completion_million_tokens_micro_usd=10**12)
    with calling_as(tenant, *PERMISSIONS):
        await one.routing.SetPrice(pb.SetPriceRequest(price=price))
    async with open_database(database_url, "model-router") as database:

        async def paid() -> bool:
            assert await one.answer(tenant, "my-model") in {"mine", "MODEL_NOT_FOUND"}
            async with unit_of_work(database, tenant) as connection:
                rows = await connection.fetch(
                    "SELECT completion_tokens, cost_micro_usd FROM model_router.model_usage"
                    " WHERE tenant_id = $1",
                    tenant,
                )
            assert {row["cost_micro_usd"] for row in rows} <= {0, 5_000_000}
            return any(row["cost_micro_usd"] == 5_000_000 for row in rows)

        await eventually(paid)


@pytest.mark.asyncio
async def test_changes_are_in_the_audit_log_without_keys(
    one: Replica, database_url: DatabaseSettings, mine: Make, tenant: str
) -> None:
    await one.create(tenant, mine())
    with calling_as(tenant, *PERMISSIONS):
        await one.routing.DeleteDeployment(pb.DeleteDeploymentRequest(name="mine"))
    async with (
        open_database(database_url, "model-router") as database,
        unit_of_work(database, tenant) as connection,
    ):
        bodies = await connection.fetch(
            "SELECT convert_from(body, 'UTF8') AS body FROM events.outbox"
            " WHERE tenant_id = $1 AND topic = 'audit.log' ORDER BY position",
            tenant,
        )
    text = [row["body"] for row in bodies]
    assert ["deployment.created" in text[0], "deployment.removed" in text[1]] == [True, True]
    assert KEY not in "".join(text)


@pytest.mark.asyncio
async def test_a_plan_is_not_widened_by_an_alias(one: Replica, mine: Make, tenant: str) -> None:
    one.directory.limits[tenant] = tenant_pb2.Quota(allowed_models=["my-*"])
    await one.create(tenant, mine())
    await one.create(tenant, mine(name="plain", model="my-own", provider_model=""))
    await one.in_force(tenant, "my-own", "plain")
    assert await one.answer(tenant, "my-model") == "MODEL_NOT_ALLOWED"
