"""Stored answers through the stub: what is recorded of them, and what stands before them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meshwright.model_router.v1 import generation_pb2, model_service_pb2
from meshwright_common.errors import ServiceError
from meshwright_common.ids import new_id
from meshwright_common.testing.mesh import calling_as, collect, user
from meshwright_common.testing.waiting import eventually

if TYPE_CHECKING:
    from tests.conftest import Router

MISS = generation_pb2.CACHE_STATUS_MISS
HIT = generation_pb2.CACHE_STATUS_HIT
NEAR = generation_pb2.CACHE_STATUS_SEMANTIC_HIT


async def ask(
    router: Router, text: str, *, semantic: bool = False, task_id: str = ""
) -> list[generation_pb2.GenerateEvent]:
    request = router.question(text, "sim-n5", task_id=task_id)
    request.cache.semantic = semantic
    responses: list[model_service_pb2.GenerateResponse] = []
    with calling_as(user(router.tenant, "model:invoke")):
        await collect(router.stub.Generate(request), responses)
    return [response.event for response in responses]


@pytest.mark.asyncio
async def test_a_hit_leaves_one_record_of_nothing(router: Router) -> None:
    first, second = new_id(), new_id()
    made = await ask(router, "hello", task_id=first)
    told = await ask(router, "hello", task_id=second)
    assert (made[0].started.cache_status, told[0].started.cache_status) == (MISS, HIT)
    assert not made[0].started.HasField("cache_age")
    assert told[0].started.HasField("cache_age")
    kinds = [event.WhichOneof("event") for event in told]
    assert kinds == ["started", *["delta"] * (len(kinds) - 2), "finished"]
    assert told[-1].finished.usage.prompt_tokens == 0

    async def are_recorded() -> bool:
        return len(await router.rows()) == 2

    await eventually(are_recorded)
    paid, free = await router.rows()
    assert (paid["task_id"], free["task_id"]) == (first, second)
    assert (free["provider"], free["outcome"]) == ("cache", "completed")
    assert (free["prompt_tokens"], free["completion_tokens"], free["cost_micro_usd"]) == (0, 0, 0)
    assert (free["model"], free["deployment"]) == (paid["model"], paid["deployment"])
    assert paid["cost_micro_usd"] == made[-1].finished.usage.cost_micro_usd


@pytest.mark.asyncio
async def test_the_meaning_of_a_question_is_usage_too(router: Router) -> None:
    made = await ask(router, "How do I reset my password?", semantic=True)
    assert made[0].started.cache_status == MISS

    asked = 0

    async def is_near() -> bool:
        nonlocal asked
        asked += 1
        # Never the same twice: when its embedding came too late, it was stored for itself.
        told = await ask(router, "how do I reset my password" + "?" * asked, semantic=True)
        return told[0].started.cache_status == NEAR

    await eventually(is_near)

    async def embedded() -> bool:
        rows = [row for row in await router.rows() if row["operation"] == "embed"]
        return bool(rows) and {row["feature"] for row in rows} == {"answer_cache"}

    await eventually(embedded)


@pytest.mark.asyncio
async def test_unknown_models_are_refused_as_without_a_cache(router: Router) -> None:
    request = router.question("hello", "nobody-knows-it")
    request.cache.SetInParent()
    responses: list[model_service_pb2.GenerateResponse] = []
    with calling_as(router.tenant, "model:invoke"), pytest.raises(ServiceError) as caught:
        await collect(router.stub.Generate(request), responses)
    assert caught.value.reason == "MODEL_NOT_FOUND"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("field", "similarity", "seconds"),
    [("cache.min_similarity", 0.4, 60), ("cache.ttl", 0.9, 0), ("cache.ttl", 0.9, 604_801)],
)
async def test_wrong_uses_are_refused_by_field(
    router: Router, field: str, similarity: float, seconds: int
) -> None:
    request = router.question("hello", "sim-n5")
    request.cache.min_similarity = similarity
    request.cache.ttl.FromSeconds(seconds)
    responses: list[model_service_pb2.GenerateResponse] = []
    with calling_as(router.tenant, "model:invoke"), pytest.raises(ServiceError) as caught:
        await collect(router.stub.Generate(request), responses)
    assert [one.field for one in caught.value.field_violations] == [field]
