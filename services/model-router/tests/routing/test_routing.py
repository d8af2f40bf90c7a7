"""Deployments, policies and prices of tenants through the stub, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from bench.simulator_state import Simulator
from meshwright.model_router.v1 import deployment_pb2, model_service_pb2
from meshwright.model_router.v1 import routing_service_pb2 as pb
from meshwright.session.v1 import tenant_pb2
from meshwright.types.v1 import message_pb2, page_pb2
from meshwright_common.context import Principal
from meshwright_common.errors import ServiceError
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.postgres import open_database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.mesh import calling_as, collect
from meshwright_common.testing.waiting import eventually

if TYPE_CHECKING:
    from tests.routing.conftest import Replica

KEY = "sk-of-the-operator-000000"
PERMISSIONS = ("route:read", "route:write", "model:invoke", "model:read")


@pytest.fixture
def tenant() -> str:
    return new_id()


def mine(simulator: Simulator, **fields: Any) -> deployment_pb2.Deployment:
    given: dict[str, Any] = {
        "name": "mine",
        "model": "my-model",
        "provider": "openai",
        "provider_model": "sim-n5",
        "base_url": simulator.base_url,
        "credential_name": "main",
    }
    return deployment_pb2.Deployment(**(given | fields))


async def create(
    on: Replica, tenant: str, deployment: deployment_pb2.Deployment, request_id: str = ""
) -> deployment_pb2.Deployment:
    # One and the same user: request ids are a caller's own.
    with calling_as(Principal(tenant, tenant, "user", frozenset(PERMISSIONS))):
        request = pb.CreateDeploymentRequest(deployment=deployment, request_id=request_id)
        return (await on.routing.CreateDeployment(request)).deployment


async def refusal(on: Replica, tenant: str, deployment: deployment_pb2.Deployment) -> ServiceError:
    with pytest.raises(ServiceError) as raised:
        await create(on, tenant, deployment)
    return raised.value


async def answer(on: Replica, tenant: str, model: str) -> str:
    """Return the deployment that answers, or the reason why none does."""
    part = message_pb2.ContentPart(text="Hello")
    request = model_service_pb2.GenerateRequest(
        model=model, messages=[message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part])]
    )
    responses: list[model_service_pb2.GenerateResponse] = []
    try:
        with calling_as(tenant, *PERMISSIONS):
            await collect(on.models.Generate(request), responses)
    except ServiceError as error:
        return error.reason
    return responses[0].event.started.deployment


async def in_force(on: Replica, tenant: str, model: str, expected: str) -> None:
    async def answers() -> bool:
        return await answer(on, tenant, model) == expected

    await eventually(answers, timeout_seconds=2)


@pytest.mark.asyncio
async def test_a_deployment_answers_on_every_replica_within_two_seconds(
    one: Replica,
    another: Callable[[], AbstractAsyncContextManager[Replica]],
    provider: Simulator,
    tenant: str,
) -> None:
    async with another() as other:
        made = await create(one, tenant, mine(provider))
        assert made.etag == "1"
        assert (made.priority, made.weight, made.operator_owned) == (50, 100, False)
        await in_force(one, tenant, "my-model", "mine")
        await in_force(other, tenant, "my-model", "mine")
        assert provider.requests[-1].headers["authorization"] == f"Bearer {KEY}"
        with calling_as(tenant, *PERMISSIONS):
            await other.routing.DeleteDeployment(pb.DeleteDeploymentRequest(name="mine"))
        await in_force(one, tenant, "my-model", "MODEL_NOT_FOUND")


@pytest.mark.asyncio
async def test_no_other_tenant_sees_or_uses_a_deployment(
    one: Replica, provider: Simulator, tenant: str
) -> None:
    await create(one, tenant, mine(provider))
    await in_force(one, tenant, "my-model", "mine")
    stranger = new_id()
    assert await answer(one, stranger, "my-model") == "MODEL_NOT_FOUND"
    with calling_as(stranger, *PERMISSIONS):
        listed = await one.routing.ListDeployments(pb.ListDeploymentsRequest())
        assert "mine" not in [deployment.name for deployment in listed.deployments]
        with pytest.raises(ServiceError) as raised:
            await one.routing.GetDeployment(pb.GetDeploymentRequest(name="mine"))
        models = await one.models.ListModels(model_service_pb2.ListModelsRequest())
    assert raised.value.reason == "DEPLOYMENT_NOT_FOUND"
    assert "my-model" not in [model.name for model in models.models]


@pytest.mark.asyncio
async def test_own_models_are_listed_beside_the_operators(
    one: Replica, provider: Simulator, tenant: str
) -> None:
    await create(one, tenant, mine(provider, context_window=4096, capabilities=["generate"]))
    await in_force(one, tenant, "my-model", "mine")
    with calling_as(tenant, *PERMISSIONS):
        answered = await one.models.ListModels(model_service_pb2.ListModelsRequest())
    models = {model.name: model for model in answered.models}
    assert {"my-model", "shared", "offline"} <= models.keys()
    assert models["my-model"].context_window == 4096
    assert models["my-model"].generates
    assert not models["my-model"].embeds


@pytest.mark.asyncio
async def test_own_deployments_of_a_shared_model_come_first_by_priority(
    one: Replica, provider: Simulator, tenant: str
) -> None:
    assert await answer(one, tenant, "shared") == "base"
    await create(one, tenant, mine(provider, model="shared"))
    await in_force(one, tenant, "shared", "mine")
    assert await answer(one, new_id(), "shared") == "base"


@pytest.mark.asyncio
async def test_the_same_request_makes_one_deployment_and_another_body_is_refused(
    one: Replica, provider: Simulator, tenant: str
) -> None:
    first = await create(one, tenant, mine(provider), "once")
    assert await create(one, tenant, mine(provider), "once") == first
    with pytest.raises(ServiceError) as raised:
        await create(one, tenant, mine(provider, weight=7), "once")
    assert raised.value.reason == "IDEMPOTENCY_KEY_REUSED"
    assert (await refusal(one, tenant, mine(provider))).reason == "ALREADY_EXISTS"
    assert (await refusal(one, tenant, mine(provider, name="base"))).reason == "ALREADY_EXISTS"


@pytest.mark.asyncio
async def test_a_key_goes_to_its_hosts_and_to_its_tenants_alone(
    one: Replica, write_models: Callable[..., None], provider: Simulator, tenant: str
) -> None:
    foreign = mine(provider, base_url="https://api.openai.com/v1")
    assert (await refusal(one, tenant, foreign)).reason == "PROVIDER_CREDENTIALS"
    unknown = mine(provider, credential_name="nothing")
    assert (await refusal(one, tenant, unknown)).reason == "PROVIDER_CREDENTIALS"
    # It exists, and is nobody's: the answer is the same.
    others = mine(provider, credential_name="other", base_url="https://api.openai.com/v1")
    refused = await refusal(one, tenant, others)
    assert refused.reason == "PROVIDER_CREDENTIALS"
    assert refused.message == (await refusal(one, tenant, unknown)).message.replace(
        "nothing", "other"
    )


@pytest.mark.asyncio
async def test_addresses_that_the_operator_does_not_allow_are_refused(
    one: Replica, provider: Simulator, tenant: str
) -> None:
    for base_url in (
        "https://example.com/v1",
        "http://api.openai.com/v1",
        "https://api.openai.com:8443/v1",
        "https://api.openai.com.example.com/v1",
        "http://169.254.169.254/latest",
        "http://127.0.0.1:1/v1",
        "http://localhost/v1",
    ):
        given = mine(provider, base_url=base_url, credential_name="")
        assert (await refusal(one, tenant, given)).reason == "EGRESS_REFUSED", base_url


@pytest.mark.asyncio
async def test_an_allowed_name_of_a_private_address_is_refused(
    one: Replica, write_models: Callable[..., None], provider: Simulator, tenant: str
) -> None:
    write_models(egress={"hosts": ["localhost"]})

    async def refused_for_its_address() -> bool:
        error = await refusal(
            one, tenant, mine(provider, base_url="https://localhost/v1", credential_name="")
        )
        assert error.reason == "EGRESS_REFUSED"
        return "not public" in error.message

    await eventually(refused_for_its_address)


@pytest.mark.asyncio
async def test_what_the_operator_forbids_later_gets_no_more_calls(
    one: Replica, write_models: Callable[..., None], provider: Simulator, tenant: str
) -> None:
    await create(one, tenant, mine(provider))
    await in_force(one, tenant, "my-model", "mine")
    write_models(credentials=[])
    await in_force(one, tenant, "my-model", "NO_DEPLOYMENT")
    write_models()
    await in_force(one, tenant, "my-model", "mine")


WRONG: Final[list[tuple[dict[str, Any], str]]] = [
    ({"name": "Mine"}, "deployment.name"),
    ({"name": "m" * 65}, "deployment.name"),
    ({"model": ""}, "deployment.model"),
    ({"model": "a b"}, "deployment.model"),
    ({"provider": "langchain"}, "deployment.provider"),
    ({"provider": ""}, "deployment.provider"),
    ({"provider_model": "*"}, "deployment.provider_model"),
    ({"base_url": "https://user:password@api.openai.com/v1"}, "deployment.base_url"),
    ({"base_url": "file:///etc/passwd"}, "deployment.base_url"),
    ({"base_url": "http://127.0.0.1:80/\x00"}, "deployment.base_url"),
    ({"priority": 101}, "deployment.priority"),
    ({"weight": -1}, "deployment.weight"),
    ({"context_window": -1}, "deployment.context_window"),
    ({"capabilities": ["fly"]}, "deployment.capabilities"),
    ({"capabilities": ["embed"]}, "deployment.embedding_dimensions"),
    ({"operator_owned": True}, "deployment.operator_owned"),
    ({"etag": "1"}, "deployment.etag"),
    ({"credential_name": "a/b"}, "deployment.credential_name"),
    (
        {"limits": deployment_pb2.DeploymentLimits(tokens_per_minute=-1)},
        "deployment.limits.tokens_per_minute",
    ),
]


@pytest.mark.asyncio
async def test_a_wrong_field_is_named(one: Replica, provider: Simulator, tenant: str) -> None:
    for fields, field in WRONG:
        refused = await refusal(one, tenant, mine(provider, **fields))
        assert refused.reason == "INVALID_ARGUMENT"
        assert [violation.field for violation in refused.field_violations] == [field]


@pytest.mark.asyncio
async def test_a_change_wants_the_etag_that_was_read(
    one: Replica, provider: Simulator, tenant: str
) -> None:
    await create(one, tenant, mine(provider))
    changed = deployment_pb2.Deployment(name="mine", weight=7, etag="1")
    with calling_as(tenant, *PERMISSIONS):

        async def update(
            deployment: deployment_pb2.Deployment, *paths: str
        ) -> deployment_pb2.Deployment:
            mask = FieldMask(paths=paths)
            request = pb.UpdateDeploymentRequest(deployment=deployment, update_mask=mask)
            return (await one.routing.UpdateDeployment(request)).deployment

        after = await update(changed, "weight")
        assert (after.weight, after.etag, after.provider_model) == (7, "2", "sim-n5")
        for deployment, paths, reason in (
            (changed, ["weight"], "CONFLICT"),
            (deployment_pb2.Deployment(name="base", weight=7), ["weight"], "FAILED_PRECONDITION"),
            (deployment_pb2.Deployment(name="gone"), ["weight"], "DEPLOYMENT_NOT_FOUND"),
            (deployment_pb2.Deployment(name="mine"), ["provider"], "INVALID_ARGUMENT"),
            (deployment_pb2.Deployment(name="mine"), [], "INVALID_ARGUMENT"),
            (
                deployment_pb2.Deployment(name="mine", base_url="https://example.com"),
                ["base_url"],
                "EGRESS_REFUSED",
            ),
        ):
            with pytest.raises(ServiceError) as raised:
                await update(deployment, *paths)
            assert raised.value.reason == reason, paths
        await update(deployment_pb2.Deployment(name="mine", disabled=True), "disabled")
    await in_force(one, tenant, "my-model", "NO_DEPLOYMENT")


@pytest.mark.asyncio
async def test_the_operators_deployments_are_read_without_their_addresses(
    one: Replica, tenant: str
) -> None:
    with calling_as(tenant, *PERMISSIONS):
        base = (await one.routing.GetDeployment(pb.GetDeploymentRequest(name="base"))).deployment
        with pytest.raises(ServiceError) as raised:
            await one.routing.DeleteDeployment(pb.DeleteDeploymentRequest(name="base"))
    assert base.operator_owned
    assert (base.base_url, base.credential_name, base.etag) == ("", "", "")
    assert raised.value.reason == "FAILED_PRECONDITION"


@pytest.mark.asyncio
async def test_lists_come_in_pages_and_tokens_are_of_one_list(
    one: Replica, provider: Simulator, tenant: str
) -> None:
    for number in range(3):
        await create(one, tenant, mine(provider, name=f"d{number}"))
    names: list[str] = []
    token = ""
    with calling_as(tenant, *PERMISSIONS):
        while True:
            page = page_pb2.PageRequest(page_size=2, page_token=token)
            request = pb.ListDeploymentsRequest(page=page, model="my-model")
            answered = await one.routing.ListDeployments(request)
            names += [deployment.name for deployment in answered.deployments]
            first, token = token or answered.page.next_page_token, answered.page.next_page_token
            if not token:
                break
    assert names == ["d0", "d1", "d2"]
    stolen = pb.ListDeploymentsRequest(page=page_pb2.PageRequest(page_token=first))
    for stranger in (tenant, new_id()):
        with calling_as(stranger, *PERMISSIONS), pytest.raises(ServiceError) as raised:
            await one.routing.ListDeployments(stolen)
        assert raised.value.reason == "INVALID_ARGUMENT"


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
    one: Replica, provider: Simulator, tenant: str
) -> None:
    await create(one, tenant, mine(provider))
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
    one: Replica, database_url: DatabaseSettings, provider: Simulator, tenant: str
) -> None:
    await create(one, tenant, mine(provider))
    price = deployment_pb2.Price(deployment="mine", completion_million_tokens_micro_usd=10**12)
    with calling_as(tenant, *PERMISSIONS):
        await one.routing.SetPrice(pb.SetPriceRequest(price=price))
    async with open_database(database_url, "model-router") as database:

        async def paid() -> bool:
            assert await answer(one, tenant, "my-model") in {"mine", "MODEL_NOT_FOUND"}
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
    one: Replica, database_url: DatabaseSettings, provider: Simulator, tenant: str
) -> None:
    await create(one, tenant, mine(provider))
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
async def test_a_plan_is_not_widened_by_an_alias(
    one: Replica, provider: Simulator, tenant: str
) -> None:
    one.directory.limits[tenant] = tenant_pb2.Quota(allowed_models=["my-*"])
    await create(one, tenant, mine(provider))
    await create(one, tenant, mine(provider, name="plain", model="my-own", provider_model=""))
    await in_force(one, tenant, "my-own", "plain")
    assert await answer(one, tenant, "my-model") == "MODEL_NOT_ALLOWED"
