"""Deployments of tenants through the stub, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from bench.simulator_state import Simulator
from meshwright.model_router.v1 import deployment_pb2, model_service_pb2
from meshwright.model_router.v1 import routing_service_pb2 as pb
from meshwright.types.v1 import page_pb2
from meshwright_common.errors import ServiceError
from meshwright_common.ids import new_id
from meshwright_common.testing.mesh import calling_as
from meshwright_common.testing.waiting import eventually

if TYPE_CHECKING:
    from tests.routing.conftest import Replica

KEY = "sk-of-the-operator-000000"
Make = Callable[..., deployment_pb2.Deployment]
PERMISSIONS = ("route:read", "route:write", "model:invoke", "model:read")


@pytest.mark.asyncio
async def test_a_deployment_answers_on_every_replica_within_two_seconds(
    one: Replica,
    another: Callable[[], AbstractAsyncContextManager[Replica]],
    mine: Make,
    provider: Simulator,
    tenant: str,
) -> None:
    async with another() as other:
        made = await one.create(tenant, mine())
        assert made.etag == "1"
        assert (made.priority, made.weight, made.operator_owned) == (50, 100, False)
        await one.in_force(tenant, "my-model", "mine")
        await other.in_force(tenant, "my-model", "mine")
        assert provider.requests[-1].headers["authorization"] == f"Bearer {KEY}"
        with calling_as(tenant, *PERMISSIONS):
            await other.routing.DeleteDeployment(pb.DeleteDeploymentRequest(name="mine"))
        await one.in_force(tenant, "my-model", "MODEL_NOT_FOUND")


@pytest.mark.asyncio
async def test_no_other_tenant_sees_or_uses_a_deployment(
    one: Replica, mine: Make, tenant: str
) -> None:
    await one.create(tenant, mine())
    await one.in_force(tenant, "my-model", "mine")
    stranger = new_id()
    assert await one.answer(stranger, "my-model") == "MODEL_NOT_FOUND"
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
    one: Replica, mine: Make, tenant: str
) -> None:
    await one.create(tenant, mine(context_window=4096, capabilities=["generate"]))
    await one.in_force(tenant, "my-model", "mine")
    with calling_as(tenant, *PERMISSIONS):
        answered = await one.models.ListModels(model_service_pb2.ListModelsRequest())
    models = {model.name: model for model in answered.models}
    assert {"my-model", "shared", "offline"} <= models.keys()
    assert models["my-model"].context_window == 4096
    assert models["my-model"].generates
    assert not models["my-model"].embeds


@pytest.mark.asyncio
async def test_own_deployments_of_a_shared_model_come_first_by_priority(
    one: Replica, mine: Make, tenant: str
) -> None:
    assert await one.answer(tenant, "shared") == "base"
    await one.create(tenant, mine(model="shared"))
    await one.in_force(tenant, "shared", "mine")
    assert await one.answer(new_id(), "shared") == "base"


@pytest.mark.asyncio
async def test_the_same_request_makes_one_deployment_and_another_body_is_refused(
    one: Replica, mine: Make, tenant: str
) -> None:
    first = await one.create(tenant, mine(), "once")
    assert await one.create(tenant, mine(), "once") == first
    with pytest.raises(ServiceError) as raised:
        await one.create(tenant, mine(weight=7), "once")
    assert raised.value.reason == "IDEMPOTENCY_KEY_REUSED"
    assert (await one.refusal(tenant, mine())).reason == "ALREADY_EXISTS"
    assert (await one.refusal(tenant, mine(name="base"))).reason == "ALREADY_EXISTS"


@pytest.mark.asyncio
async def test_a_key_goes_to_its_hosts_and_to_its_tenants_alone(
    one: Replica, write_models: Callable[..., None], mine: Make, tenant: str
) -> None:
    foreign = mine(base_url="https://api.openai.com/v1")
    assert (await one.refusal(tenant, foreign)).reason == "PROVIDER_CREDENTIALS"
    unknown = mine(credential_name="nothing")
    assert (await one.refusal(tenant, unknown)).reason == "PROVIDER_CREDENTIALS"
    # It exists, and is nobody's: the answer is the same.
    others = mine(credential_name="other", base_url="https://api.openai.com/v1")
    refused = await one.refusal(tenant, others)
    assert refused.reason == "PROVIDER_CREDENTIALS"
    assert refused.message == (await one.refusal(tenant, unknown)).message.replace(
        "nothing", "other"
    )


@pytest.mark.asyncio
async def test_addresses_that_the_operator_does_not_allow_are_refused(
    one: Replica, mine: Make, tenant: str
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
        given = mine(base_url=base_url, credential_name="")
        assert (await one.refusal(tenant, given)).reason == "EGRESS_REFUSED", base_url


@pytest.mark.asyncio
async def test_an_allowed_name_of_a_private_address_is_refused(
    one: Replica, write_models: Callable[..., None], mine: Make, tenant: str
) -> None:
    write_models(egress={"hosts": ["localhost"]})

    async def refused_for_its_address() -> bool:
        error = await one.refusal(tenant, mine(base_url="https://localhost/v1", credential_name=""))
        assert error.reason == "EGRESS_REFUSED"
        return "not public" in error.message

    await eventually(refused_for_its_address)


@pytest.mark.asyncio
async def test_what_the_operator_forbids_later_gets_no_more_calls(
    one: Replica, write_models: Callable[..., None], mine: Make, tenant: str
) -> None:
    await one.create(tenant, mine())
    await one.in_force(tenant, "my-model", "mine")
    write_models(credentials=[])
    await one.in_force(tenant, "my-model", "NO_DEPLOYMENT")
    write_models()
    await one.in_force(tenant, "my-model", "mine")


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
async def test_a_wrong_field_is_named(one: Replica, mine: Make, tenant: str) -> None:
    for fields, field in WRONG:
        refused = await one.refusal(tenant, mine(**fields))
        assert refused.reason == "INVALID_ARGUMENT"
        assert [violation.field for violation in refused.field_violations] == [field]


@pytest.mark.asyncio
async def test_a_change_wants_the_etag_that_was_read(one: Replica, mine: Make, tenant: str) -> None:
    await one.create(tenant, mine())
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
    await one.in_force(tenant, "my-model", "NO_DEPLOYMENT")


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
    one: Replica, mine: Make, tenant: str
) -> None:
    for number in range(3):
        await one.create(tenant, mine(name=f"d{number}"))
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
