"""Rerank and Moderate through the stub: built in, and at a provider."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import pytest

from bench.simulator_state import Simulator
from meshwright.model_router.v1 import model_service_pb2
from meshwright_common.errors import InvalidArgument, ServiceError
from meshwright_common.ids import new_id
from meshwright_common.testing.mesh import calling_as
from meshwright_common.testing.waiting import eventually
from meshwright_model_router.settings import DeploymentSettings, ModelsSettings
from meshwright_model_router.wire import verdicts

if TYPE_CHECKING:
    from tests.conftest import Router

DOCUMENTS = ("the history of Rome", "how to install a package", "如何安装软件包")


@pytest.fixture
def models(provider: Simulator) -> ModelsSettings:
    """The simulated provider reranks and moderates."""
    return ModelsSettings(
        deployments=tuple(
            DeploymentSettings.model_validate(
                {
                    "name": f"{purpose}-model*",
                    "base_url": provider.base_url,
                    "model": "*",
                    "capabilities": [purpose],
                    "prices": {"input_micro_usd": 1_000_000},
                }
            )
            for purpose in ("rerank", "moderate")
        )
    )


def attribution() -> model_service_pb2.UsageAttribution:
    return model_service_pb2.UsageAttribution(task_id=new_id(), step=1, attempt=1, feature="test")


async def rerank(
    router: Router,
    model: str = "",
    *,
    query: str = "install packages",
    documents: Sequence[str] = DOCUMENTS,
    top_n: int = 0,
) -> model_service_pb2.RerankResponse:
    request = model_service_pb2.RerankRequest(
        model=model,
        query=query,
        documents=documents,
        top_n=top_n,
        attribution=attribution(),
    )
    with calling_as(router.tenant, "model:invoke"):
        return await router.stub.Rerank(request)


async def moderate(
    router: Router, *texts: str, model: str = ""
) -> model_service_pb2.ModerateResponse:
    request = model_service_pb2.ModerateRequest(model=model, texts=texts, attribution=attribution())
    with calling_as(router.tenant, "model:invoke"):
        return await router.stub.Moderate(request)


def recorded(router: Router, operation: str) -> Callable[[], Awaitable[bool]]:
    async def found() -> bool:
        return [row["operation"] for row in await router.rows()] == [operation]

    return found


@pytest.mark.asyncio
async def test_built_in_model_reranks_without_a_key(router: Router) -> None:
    answer = await rerank(router)
    assert answer.model == "builtin-rerank"
    assert [one.index for one in answer.results][-1] == 0
    scores = [one.score for one in answer.results]
    assert scores == sorted(scores, reverse=True)
    assert answer.usage.prompt_tokens > 0
    await eventually(recorded(router, "rerank"))


@pytest.mark.asyncio
async def test_built_in_model_moderates_without_a_key(router: Router) -> None:
    answer = await moderate(router, "a nice day", "I want to kill myself", "我不想活了")
    assert answer.model == "builtin-moderation"
    assert [one.flagged for one in answer.results] == [False, True, True]
    assert answer.results[1].category_scores["self-harm"] == pytest.approx(0.9)
    await eventually(recorded(router, "moderate"))


@pytest.mark.asyncio
async def test_provider_reranks_and_is_paid(router: Router) -> None:
    answer = await rerank(router, "rerank-model", top_n=2)
    assert len(answer.results) == 2
    assert answer.results[0].index == 1
    (row,) = await router.rows()
    assert row["operation"] == "rerank"
    assert row["cost_micro_usd"] == answer.usage.cost_micro_usd == answer.usage.prompt_tokens > 0
    (event,) = await router.events()
    assert event.operation == "rerank"


@pytest.mark.asyncio
async def test_provider_moderates_and_is_recorded(router: Router) -> None:
    answer = await moderate(router, "fine", "forbidden", model="moderate-model")
    assert [one.flagged for one in answer.results] == [False, True]
    (row,) = await router.rows()
    assert (row["operation"], row["deployment"]) == ("moderate", "moderate-model*")
    assert row["estimated"] is True  # the API counts no tokens


@pytest.mark.asyncio
async def test_refused_request_is_repeated_and_each_is_recorded(router: Router) -> None:
    """One usage event an attempt."""
    await rerank(router, "rerank-model", query="sim-err500-fails1-id:rerank")
    rows = await router.rows()
    assert sorted(str(row["outcome"]) for row in rows) == ["completed", "failed"]


@pytest.mark.parametrize(
    ("query", "documents", "top_n", "field"),
    [
        ("", ("a",), 0, "query"),
        ("x" * 8193, ("a",), 0, "query"),
        ("q", (), 0, "documents"),
        ("q", ("a",) * 257, 0, "documents"),
        ("q", ("a", ""), 0, "documents[1]"),
        ("q", ("x" * 32769,), 0, "documents[0]"),
        ("q", ("a",), -1, "top_n"),
    ],
)
def test_bad_rerank_request_names_its_field(
    query: str, documents: tuple[str, ...], top_n: int, field: str
) -> None:
    request = model_service_pb2.RerankRequest(query=query, documents=documents, top_n=top_n)

    def read() -> None:
        verdicts.query_from(request)
        verdicts.documents_from(request)

    with pytest.raises(InvalidArgument) as raised:
        read()
    assert field in str(raised.value)


@pytest.mark.parametrize("texts", [(), ("a",) * 33, ("",), ("x" * 32769,)])
def test_bad_moderate_request_names_its_field(texts: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgument) as raised:
        verdicts.moderated_from(model_service_pb2.ModerateRequest(texts=texts))
    assert "texts" in str(raised.value)


@pytest.mark.asyncio
async def test_model_that_generates_does_not_rerank(router: Router) -> None:
    with pytest.raises(ServiceError) as raised:
        await rerank(router, "offline")
    assert raised.value.reason == "MODEL_NOT_FOUND"
    assert "builtin-rerank" in str(raised.value)
