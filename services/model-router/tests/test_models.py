"""Embed, CountTokens and ListModels through the stub."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from meshwright.model_router.v1 import model_service_pb2
from meshwright.types.v1 import message_pb2
from meshwright_common.errors import ServiceError
from meshwright_common.ids import new_id
from meshwright_common.testing.mesh import SUBSTRATES, calling_as
from meshwright_common.testing.waiting import eventually

if TYPE_CHECKING:
    from tests.conftest import Router


async def embed(
    router: Router, request: model_service_pb2.EmbedRequest
) -> model_service_pb2.EmbedResponse:
    with calling_as(router.tenant, "model:invoke"):
        return await router.stub.Embed(request)


@pytest.mark.asyncio
@pytest.mark.parametrize("substrate", SUBSTRATES)
async def test_built_in_model_embeds_without_a_key(router: Router) -> None:
    texts = ["how to install a package", "如何安装软件包", "the history of Rome"]
    answer = await embed(router, model_service_pb2.EmbedRequest(texts=texts))
    assert answer.model == "builtin-384"
    vectors = [list(embedding.values) for embedding in answer.embeddings]
    assert [len(vector) for vector in vectors] == [384] * 3
    assert math.hypot(*vectors[0]) == pytest.approx(1.0, abs=1e-5)
    alike, apart = (
        sum(one * other for one, other in zip(vectors[0], vector, strict=True))
        for vector in vectors[1:]
    )
    assert alike > apart
    assert answer.usage.prompt_tokens > 0

    async def recorded() -> bool:
        return [row["operation"] for row in await router.rows()] == ["embed"]

    await eventually(recorded)


@pytest.mark.asyncio
async def test_provider_embeds_and_is_paid(router: Router) -> None:
    answer = await embed(
        router, model_service_pb2.EmbedRequest(model="sim-vectors", texts=["red apple"] * 3)
    )
    assert [len(embedding.values) for embedding in answer.embeddings] == [256] * 3
    (row,) = await router.rows()
    assert row["cost_micro_usd"] == answer.usage.cost_micro_usd == answer.usage.prompt_tokens > 0


@pytest.mark.asyncio
async def test_generation_and_embedding_of_one_step_are_two_records(router: Router) -> None:
    task_id = new_id()
    await router.generate(router.question("hello", "sim-n1", task_id=task_id))
    attribution = model_service_pb2.UsageAttribution(task_id=task_id, step=1, attempt=1)
    await embed(
        router,
        model_service_pb2.EmbedRequest(model="sim-vectors", texts=["a"], attribution=attribution),
    )
    assert {row["operation"] for row in await router.rows()} == {"generate", "embed"}


@pytest.mark.asyncio
@pytest.mark.parametrize("model", ["offline", "sim-n1", "nothing"])
async def test_model_that_does_not_embed_is_not_found(router: Router, model: str) -> None:
    with pytest.raises(ServiceError) as raised:
        await embed(router, model_service_pb2.EmbedRequest(model=model, texts=["a"]))
    assert raised.value.reason == "MODEL_NOT_FOUND"
    assert raised.value.metadata["models"] == "builtin-384, sim-vectors"


@pytest.mark.asyncio
async def test_models_are_listed_by_name_without_patterns(router: Router) -> None:
    with calling_as(router.tenant, "model:read"):
        answer = await router.stub.ListModels(model_service_pb2.ListModelsRequest())
    models = {model.name: model for model in answer.models}
    built_in = ["builtin-384", "builtin-moderation", "builtin-rerank", "offline"]
    assert list(models) == [*built_in, "sim-vectors"]
    assert models["builtin-rerank"].reranks
    assert models["builtin-moderation"].moderates
    assert models["offline"].generates
    assert not models["offline"].embeds
    assert models["builtin-384"].embedding_dimensions == 384
    assert models["sim-vectors"].provider == "openai"


@pytest.mark.asyncio
@pytest.mark.parametrize(("model", "estimated"), [("", False), ("sim-n1", True)])
async def test_tokens_are_counted_without_the_provider(
    router: Router, model: str, estimated: bool
) -> None:
    message = message_pb2.Message(
        role=message_pb2.ROLE_USER, parts=[message_pb2.ContentPart(text="hello world")]
    )
    with calling_as(router.tenant, "model:invoke"):
        answer = await router.stub.CountTokens(
            model_service_pb2.CountTokensRequest(model=model, messages=[message])
        )
    assert answer.tokens == 7
    assert answer.estimated is estimated
    assert router.provider.counters.requests == 0


@pytest.mark.asyncio
async def test_caller_without_the_permission_is_refused(router: Router) -> None:
    with calling_as(router.tenant, "model:read"), pytest.raises(ServiceError) as raised:
        await router.stub.Embed(model_service_pb2.EmbedRequest(texts=["a"]))
    assert raised.value.reason == "PERMISSION_DENIED"
