"""A tenant uses the models of its plan, while it has tokens left and is not suspended."""

from typing import Any

import pytest

from meshwright.model_router.v1 import model_service_pb2 as pb
from meshwright.session.v1 import tenant_pb2
from meshwright_common.errors import (
    FailedPrecondition,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from meshwright_common.testing.mesh import calling_as
from meshwright_model_router.settings import DeploymentSettings, ModelsSettings

SMALL = tenant_pb2.Quota(allowed_models=["*small*"])
BUILT_IN = ("builtin-384", "builtin-moderation", "builtin-rerank")


@pytest.fixture
def models(provider: Any) -> ModelsSettings:
    """A large model as the default, an alias of a small one, and a small one by name."""
    large, alias, small = (
        DeploymentSettings(name=name, model=model, base_url=provider.base_url)
        for name, model in (("large", "sim-n2"), ("fast", "sim-n2-id:small"), ("small", "sim-n2"))
    )
    return ModelsSettings(deployments=(large, alias, small), default="large")


async def names(router: Any) -> list[str]:
    with calling_as(router.tenant, "model:read"):
        answer = await router.stub.ListModels(pb.ListModelsRequest())
    return [model.name for model in answer.models]


@pytest.mark.asyncio
async def test_a_model_beyond_the_plan_is_refused_and_not_listed(router: Any) -> None:
    router.directory.limits[router.tenant] = SMALL
    with pytest.raises(PermissionDenied) as refused:
        await router.generate(router.question("Hello", "large"))
    told = refused.value
    assert ("MODEL_NOT_ALLOWED", "large") == (told.reason, told.metadata["model"])
    assert [*BUILT_IN, "fast", "offline", "small"] == await names(router)
    for allowed in ("fast", "small", "offline"):
        await router.generate(router.question("Hello", allowed))


@pytest.mark.asyncio
async def test_a_tenant_without_limits_names_every_model(router: Any) -> None:
    assert [*BUILT_IN, "fast", "large", "offline", "small"] == await names(router)
    await router.generate(router.question("Hello", "large"))


@pytest.mark.asyncio
async def test_a_default_beyond_the_plan_gives_way_to_a_model_of_the_plan(router: Any) -> None:
    router.directory.limits[router.tenant] = SMALL
    await router.generate(router.question("Hello"))
    assert ["fast"] == [row["deployment"] for row in await router.rows()]


@pytest.mark.asyncio
async def test_without_any_model_of_the_plan_the_default_is_refused(router: Any) -> None:
    router.directory.limits[router.tenant] = tenant_pb2.Quota(allowed_models=["nothing"])
    with pytest.raises(PermissionDenied) as refused:
        await router.generate(router.question("Hello"))
    assert "large" == refused.value.metadata["model"]


@pytest.mark.asyncio
async def test_the_platforms_own_embeddings_are_in_every_plan(router: Any) -> None:
    router.directory.limits[router.tenant] = tenant_pb2.Quota(allowed_models=["nothing"])
    with calling_as(router.tenant, "model:invoke"):
        answer = await router.stub.Embed(pb.EmbedRequest(texts=["words"]))
    assert "builtin-384" == answer.model


@pytest.mark.asyncio
async def test_no_model_answers_when_the_tokens_of_the_day_are_spent(router: Any) -> None:
    router.directory.limits[router.tenant] = tenant_pb2.Quota(max_tokens_per_day=100)
    router.directory.used[router.tenant] = tenant_pb2.Quota(max_tokens_per_day=101)
    with pytest.raises(ResourceExhausted) as refused:
        await router.generate(router.question("Hello"))
    told = refused.value
    assert "QUOTA_EXCEEDED" == told.reason
    assert {
        "quota": "tokens_per_day",
        "limit": "100",
        "used": "101",
        "plan": "starter",
    }.items() <= (told.metadata.items())
    assert told.retry_after_seconds is not None
    assert 0 < told.retry_after_seconds <= 24 * 3600
    assert [] == await router.rows()


@pytest.mark.asyncio
async def test_no_model_answers_a_suspended_tenant(router: Any) -> None:
    router.directory.suspended.add(router.tenant)
    with pytest.raises(FailedPrecondition) as refused:
        await router.generate(router.question("Hello", "offline"))
    assert "TENANT_SUSPENDED" == refused.value.reason


@pytest.mark.asyncio
async def test_nothing_is_unmetered_while_no_quota_is_known(router: Any) -> None:
    """R-20: what is not known is refused, unless the settings say otherwise."""
    router.directory.error = Unavailable("session is away")
    with pytest.raises(Unavailable):
        await router.generate(router.question("Hello", "offline"))
