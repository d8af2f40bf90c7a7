"""Two processes of the router: what changes at one, or in the file, is in force at both."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bench.router_replicas import RouterReplica, Routers, running_routers
from bench.simulator_state import Simulator
from bench.upstream_simulator import simulator
from meshwright.model_router.v1 import deployment_pb2, model_service_pb2, routing_service_pb2
from meshwright_common.ids import new_id
from meshwright_common.settings import RedisSettings
from meshwright_common.testing.engines import DatabaseSettingsFor
from meshwright_common.testing.mesh import calling_as
from meshwright_common.testing.patience import patient_environment
from meshwright_common.testing.waiting import eventually

SECONDS = 2.0
"""In which a change is in force."""
pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The operator's file, which both read."""
    path = tmp_path / "operators.yaml"
    write(path, "first")
    return path


def write(file: Path, *names: str) -> None:
    """Replace the file by one with deployments of these names."""
    deployments = [{"name": name, "base_url": "http://127.0.0.1:9/v1"} for name in names]
    partial = file.with_suffix(".new")
    # JSON is YAML.
    content = {"deployments": deployments, "egress": {"private_hosts": ["127.0.0.1:9"]}}
    partial.write_text(json.dumps(content), "utf-8")
    partial.replace(file)


def break_it(file: Path) -> None:
    """Write half of it, in place."""
    file.write_text('{"deployments": [{"name": "ha', "utf-8")


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[Simulator]:
    async with simulator() as running:
        yield running


@pytest_asyncio.fixture
async def routers(
    database_settings: DatabaseSettingsFor,
    redis_settings: RedisSettings,
    tmp_path: Path,
    file: Path,
    provider: Simulator,
) -> AsyncIterator[Routers]:
    database = await database_settings("meshwright_model_router")
    environment = patient_environment() | {"MESHWRIGHT_MODELS__FILE": str(file)}
    async with running_routers(
        tmp_path, database, redis_settings, provider.base_url, count=2, environment=environment
    ) as running:
        yield running


async def models(replica: RouterReplica, tenant: str) -> set[str]:
    with calling_as(tenant, "model:read"):
        answer = await replica.models.ListModels(model_service_pb2.ListModelsRequest())
    return {model.name for model in answer.models}


@pytest.mark.promise("RT-06")
@pytest.mark.promise("RT-07")
async def test_changes_reach_both_replicas_and_a_broken_file_none(
    routers: Routers, file: Path
) -> None:
    one, other = routers.replicas
    tenant = new_id()

    async def both(name: str, *, there: bool) -> bool:
        return all([(name in await models(each, tenant)) is there for each in (one, other)])

    assert await both("first", there=True)
    made = deployment_pb2.Deployment(
        name="mine", model="my-model", provider="openai", base_url="http://127.0.0.1:9/v1"
    )
    with calling_as(tenant, "route:write"):
        request = routing_service_pb2.CreateDeploymentRequest(deployment=made)
        await one.routing.CreateDeployment(request)
    await eventually(lambda: both("my-model", there=True), timeout_seconds=SECONDS)

    write(file, "second")
    await eventually(lambda: both("second", there=True), timeout_seconds=SECONDS)
    assert await both("first", there=False)

    break_it(file)
    with calling_as(tenant, "route:write"):
        delete = routing_service_pb2.DeleteDeploymentRequest(name="mine")
        await other.routing.DeleteDeployment(delete)
    await eventually(lambda: both("my-model", there=False), timeout_seconds=SECONDS)
    await eventually(
        lambda: all("models_file_refused" in each.log.read_text() for each in routers.replicas)
    )
    assert await both("second", there=True)

    write(file, "third")
    await eventually(lambda: both("third", there=True), timeout_seconds=SECONDS)
