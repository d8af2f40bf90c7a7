"""Two processes of the router and a provider that fails: what one learns, the other knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bench.router_replicas import RouterReplica, Routers, running_routers
from bench.simulator_state import Simulator
from bench.upstream_simulator import simulator
from meshwright.model_router.v1 import (
    deployment_pb2,
    generation_pb2,
    model_service_pb2,
    routing_service_pb2,
)
from meshwright.types.v1 import message_pb2
from meshwright_common.errors import ServiceError
from meshwright_common.ids import new_id
from meshwright_common.settings import RedisSettings
from meshwright_common.testing.engines import DatabaseSettingsFor
from meshwright_common.testing.mesh import calling_as, collect
from meshwright_common.testing.patience import patient_environment
from meshwright_common.testing.waiting import eventually

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]


_MODELS = """
deployments:
  - {{name: sim, model: sim-*, provider_model: "*", base_url: {url}}}
  - {{name: strict, model: sim-err500*, provider_model: "*", base_url: {url}}}
policies:
  - {{name: strict, models: ["sim-err500*"], max_attempts: 1, cool_down: {{seconds: 1}}}}
"""
CALLS = 150
"""At each replica."""


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[Simulator]:
    async with simulator() as running:
        yield running


@pytest_asyncio.fixture
async def routers(
    database_settings: DatabaseSettingsFor,
    redis_settings: RedisSettings,
    tmp_path: Path,
    provider: Simulator,
) -> AsyncIterator[Routers]:
    database = await database_settings("meshwright_model_router")
    file = tmp_path / "faulty.yaml"
    file.write_text(_MODELS.format(url=provider.base_url))
    environment = patient_environment() | {"MESHWRIGHT_MODELS__FILE": str(file)}
    async with running_routers(
        tmp_path, database, redis_settings, provider.base_url, count=2, environment=environment
    ) as running:
        yield running


async def ask(replica: RouterReplica, tenant: str, model: str) -> str:
    """Return the reason of the refusal, "" when there is an answer."""
    request = model_service_pb2.GenerateRequest(
        model=model,
        messages=[
            message_pb2.Message(
                role=message_pb2.ROLE_USER, parts=[message_pb2.ContentPart(text="Hello")]
            )
        ],
    )
    responses: list[model_service_pb2.GenerateResponse] = []
    try:
        with calling_as(tenant, "model:invoke"):
            await collect(replica.models.Generate(request), responses)
    except ServiceError as error:
        return error.reason
    assert responses[-1].event.finished.finish_reason == generation_pb2.FINISH_REASON_STOP
    return ""


async def breaker(replica: RouterReplica, tenant: str) -> deployment_pb2.BreakerState.ValueType:
    with calling_as(tenant, "route:read"):
        listed = await replica.routing.ListHealth(routing_service_pb2.ListHealthRequest())
    (state,) = (one.breaker_state for one in listed.deployments if one.deployment == "strict")
    return state


@pytest.mark.promise("FAULT-07")
@pytest.mark.promise("FAULT-08")
async def test_breaker_is_that_of_both_replicas_and_steady_failure_costs_a_tenth_more_at_most(
    routers: Routers, provider: Simulator
) -> None:
    one, other = routers.replicas
    tenant, model = new_id(), "sim-err500-fails3"
    assert [await ask(one, tenant, model) for _ in range(3)] == ["PROVIDER_UNAVAILABLE"] * 3

    async def is_told() -> bool:
        return await breaker(other, tenant) != deployment_pb2.BREAKER_STATE_CLOSED

    await eventually(is_told)
    assert provider.counters.chat == 3

    async def both_answer() -> bool:
        told = await asyncio.gather(*(ask(each, tenant, model) for each in (one, other)))
        assert set(told) <= {"", "NO_DEPLOYMENT"}
        return told == ["", ""]

    await eventually(both_answer)
    assert await breaker(one, tenant) == deployment_pb2.BREAKER_STATE_CLOSED
    assert await breaker(other, tenant) == deployment_pb2.BREAKER_STATE_CLOSED

    before = provider.counters.chat
    told = await asyncio.gather(
        *(
            ask(each, tenant, f"sim-err429-id:{number % 7}")
            for each in routers.replicas
            for number in range(CALLS)
        )
    )
    assert set(told) == {"PROVIDER_RATE_LIMIT"}
    offered = CALLS * len(routers.replicas)
    assert offered < provider.counters.chat - before <= offered * 1.1
