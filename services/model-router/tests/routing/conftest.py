"""Fixtures of routing: replicas with a file of models and their background tasks running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import yaml

from bench.simulator_state import Simulator
from meshwright.model_router.v1 import deployment_pb2, model_service_pb2
from meshwright.model_router.v1 import routing_service_pb2 as pb
from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceStub
from meshwright.model_router.v1.routing_service_pb2_grpc import RoutingServiceStub
from meshwright.types.v1 import message_pb2
from meshwright_common.app import BackgroundTask
from meshwright_common.context import Principal
from meshwright_common.errors import ServiceError
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings, RedisSettings
from meshwright_common.testing.mesh import calling_as, collect, serving
from meshwright_common.testing.quotas import QuotaDirectory
from meshwright_common.testing.waiting import eventually
from meshwright_model_router.app import build
from meshwright_model_router.settings import ModelsSettings, Settings

if TYPE_CHECKING:
    from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceAsyncStub
    from meshwright.model_router.v1.routing_service_pb2_grpc import RoutingServiceAsyncStub

PERMISSIONS = ("route:read", "route:write", "model:invoke", "model:read")
KEY = "sk-of-the-operator-000000"


@dataclass(frozen=True, slots=True)
class Replica:
    """One process of the service."""

    models: ModelServiceAsyncStub
    routing: RoutingServiceAsyncStub
    directory: QuotaDirectory

    async def create(
        self, tenant: str, deployment: deployment_pb2.Deployment, request_id: str = ""
    ) -> deployment_pb2.Deployment:
        """Create a deployment, always as the same user: request ids are a caller's own."""
        with calling_as(Principal(tenant, tenant, "user", frozenset(PERMISSIONS))):
            request = pb.CreateDeploymentRequest(deployment=deployment, request_id=request_id)
            return (await self.routing.CreateDeployment(request)).deployment

    async def refusal(self, tenant: str, deployment: deployment_pb2.Deployment) -> ServiceError:
        """Return why a deployment cannot be created."""
        with pytest.raises(ServiceError) as raised:
            await self.create(tenant, deployment)
        return raised.value

    async def answer(self, tenant: str, model: str) -> str:
        """Return the deployment that answers, or the reason why none does."""
        part = message_pb2.ContentPart(text="Hello")
        request = model_service_pb2.GenerateRequest(
            model=model, messages=[message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part])]
        )
        responses: list[model_service_pb2.GenerateResponse] = []
        try:
            with calling_as(tenant, *PERMISSIONS):
                await collect(self.models.Generate(request), responses)
        except ServiceError as error:
            return error.reason
        return responses[0].event.started.deployment

    async def in_force(self, tenant: str, model: str, expected: str) -> None:
        """Return when calls of a model have an answer; it has to be within 2 s."""

        async def answers() -> bool:
            return await self.answer(tenant, model) == expected

        await eventually(answers)


@asynccontextmanager
async def replica(
    database: DatabaseSettings, redis: RedisSettings, file: Path
) -> AsyncIterator[Replica]:
    """Run a replica with the file of models."""
    settings = Settings(database=database, redis=redis, models=ModelsSettings(file=file))
    directory = QuotaDirectory()
    async with (
        serving(directory.register) as peers,
        build(settings, peers.channels("model-router")) as app,
        serving(app.register) as served,
        asyncio.TaskGroup() as group,
    ):
        for check in app.checks:
            await check.probe()
        wanted = {"models-file", "tenants-changes"}
        running = [group.create_task(_run(one)) for one in app.tasks if one.name in wanted]
        channel = served.channels().open("model-router")
        try:
            yield Replica(ModelServiceStub(channel), RoutingServiceStub(channel), directory)
        finally:
            for task in running:
                task.cancel()


@pytest.fixture
def tenant() -> str:
    return new_id()


@pytest.fixture
def mine(provider: Simulator) -> Callable[..., deployment_pb2.Deployment]:
    """Makes a tenant's deployment at the simulated provider, with fields of one's own."""

    def make(**fields: Any) -> deployment_pb2.Deployment:
        given: dict[str, Any] = {
            "name": "mine",
            "model": "my-model",
            "provider": "openai",
            "provider_model": "sim-n5",
            "base_url": provider.base_url,
            "credential_name": "main",
        }
        return deployment_pb2.Deployment(**(given | fields))

    return make


@pytest.fixture
def file(tmp_path: Path, provider: Simulator, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The operator's file."""
    monkeypatch.setenv("OPERATORS_KEY", KEY)
    path = tmp_path / "models.yaml"
    _write(path, provider)
    return path


@pytest.fixture
def write_models(file: Path, provider: Simulator) -> Callable[..., None]:
    """Replaces the file; sections of the usual content by name."""

    def write(**sections: object) -> None:
        _write(file, provider, **sections)

    return write


@pytest.fixture
def another(
    database_url: DatabaseSettings, redis_settings: RedisSettings, file: Path
) -> Callable[[], AbstractAsyncContextManager[Replica]]:
    """Runs one more replica on the same database and file."""
    return lambda: replica(database_url, redis_settings, file)


@pytest_asyncio.fixture
async def one(
    another: Callable[[], AbstractAsyncContextManager[Replica]],
) -> AsyncIterator[Replica]:
    """A replica."""
    async with another() as running:
        yield running


async def _run(task: BackgroundTask) -> None:
    await task.run()


def _write(file: Path, provider: Simulator, **sections: object) -> None:
    """Write the file anew: tenants may go to the simulator, with the key `main`."""
    address = provider.base_url.removeprefix("http://").removesuffix("/v1")
    content = {
        "egress": {"private_hosts": [address], "hosts": ["api.openai.com"]},
        "credentials": [
            {"name": "main", "env": "OPERATORS_KEY", "hosts": [address], "tenants": ["*"]},
            {"name": "other", "env": "OPERATORS_KEY", "hosts": ["api.openai.com"]},
        ],
        "deployments": [
            {"name": "base", "model": "shared", "base_url": provider.base_url, "priority": 60}
        ],
    }
    partial = file.with_suffix(".new")
    partial.write_text(yaml.safe_dump(content | sections), "utf-8")
    partial.replace(file)
