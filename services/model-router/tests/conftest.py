"""Fixtures of model-router's tests: the simulated provider, and the service in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
import pytest
import pytest_asyncio
from google.protobuf import json_format

from bench.simulator_state import Simulator
from bench.upstream_simulator import simulator
from meshwright.events.v1 import usage_pb2
from meshwright.model_router.v1 import generation_pb2, model_service_pb2
from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceStub
from meshwright.model_router.v1.routing_service_pb2_grpc import RoutingServiceStub
from meshwright.types.v1 import message_pb2
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings, RedisSettings
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.encryption import encryption_settings
from meshwright_common.testing.engines import DatabaseSettingsFor
from meshwright_common.testing.mesh import Substrate, calling_as, collect, serving
from meshwright_common.testing.quotas import QuotaDirectory
from meshwright_model_router.app import build
from meshwright_model_router.settings import DeploymentSettings, ModelsSettings, Settings

if TYPE_CHECKING:
    from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceAsyncStub
    from meshwright.model_router.v1.routing_service_pb2_grpc import RoutingServiceAsyncStub


@dataclass(frozen=True, slots=True)
class Router:
    """The service, served, and what it leaves in its database."""

    stub: ModelServiceAsyncStub
    routing: RoutingServiceAsyncStub
    database: Database
    provider: Simulator
    directory: QuotaDirectory
    tenant: str
    """A tenant of its own for each test."""

    @staticmethod
    def question(
        text: str, model: str = "", *, task_id: str = "", step: int = 1, attempt: int = 1
    ) -> model_service_pb2.GenerateRequest:
        """Return a request of one user message."""
        part = message_pb2.ContentPart(text=text)
        request = model_service_pb2.GenerateRequest(
            model=model,
            messages=[message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part])],
        )
        if task_id:
            request.attribution.MergeFrom(
                model_service_pb2.UsageAttribution(
                    task_id=task_id, step=step, attempt=attempt, feature="agent"
                )
            )
        return request

    async def generate(
        self, request: model_service_pb2.GenerateRequest, *, timeout_seconds: float | None = None
    ) -> list[generation_pb2.GenerateEvent]:
        """Return all events of a generation, asked for by a fresh user of the tenant."""
        responses: list[model_service_pb2.GenerateResponse] = []
        with calling_as(self.tenant, "model:invoke", timeout_seconds=timeout_seconds):
            await collect(self.stub.Generate(request), responses)
        return [response.event for response in responses]

    async def rows(self, tenant: str = "") -> list[Mapping[str, object]]:
        """Return the usage rows that a tenant sees, in the order of their steps."""
        async with unit_of_work(self.database, tenant or self.tenant) as connection:
            found = await connection.fetch(
                "SELECT * FROM model_router.model_usage WHERE tenant_id = $1"
                " ORDER BY task_id, step, attempt, operation",
                self.tenant,
            )
        return [dict(row) for row in found]

    async def events(self) -> list[usage_pb2.UsageRecorded]:
        """Return the tenant's events of topic usage.stats."""
        async with unit_of_work(self.database, self.tenant) as connection:
            found = await connection.fetch(
                "SELECT body FROM events.outbox WHERE tenant_id = $1 AND topic = 'usage.stats'",
                self.tenant,
            )
        envelopes = [orjson.loads(row["body"]) for row in found]
        assert {one["event_type"] for one in envelopes} <= {"model.usage.recorded"}
        return [json_format.ParseDict(one["data"], usage_pb2.UsageRecorded()) for one in envelopes]


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[Simulator]:
    """The simulated OpenAI-compatible provider."""
    async with simulator(record=True) as running:
        yield running


@pytest_asyncio.fixture
async def database_url(database_settings: DatabaseSettingsFor) -> DatabaseSettings:
    """A fresh, migrated database of this service."""
    return await database_settings("meshwright_model_router")


@pytest.fixture
def models(provider: Simulator) -> ModelsSettings:
    """Settings with the simulated provider as `sim-*`, priced, and as embedding model."""
    generating = {
        "name": "sim-*",
        "base_url": provider.base_url,
        "model": "*",
        "api_key": "sk-simulated-key-000000",
        "prices": {"input_micro_usd": 1_000_000, "output_micro_usd": 2_000_000},
    }
    embedding = {
        "name": "sim-vectors",
        "base_url": provider.base_url,
        "model": "sim-dim256",
        "embedding_dimensions": 256,
        "prices": {"input_micro_usd": 1_000_000},
    }
    return ModelsSettings(
        deployments=(
            DeploymentSettings.model_validate(generating),
            DeploymentSettings.model_validate(embedding),
        )
    )


@pytest.fixture
def substrate() -> Substrate:
    """How the service is called; a test that needs more than one parametrises it."""
    return "local"


@pytest_asyncio.fixture
async def router(
    database_url: DatabaseSettings,
    redis_settings: RedisSettings,
    models: ModelsSettings,
    substrate: Substrate,
    provider: Simulator,
) -> AsyncIterator[Router]:
    """The whole service on a real database."""
    settings = Settings(
        database=database_url,
        redis=redis_settings,
        encryption=encryption_settings(),
        models=models,
    )
    directory = QuotaDirectory()
    async with (
        serving(directory.register) as peers,
        build(settings, peers.channels("model-router")) as app,
        serving(app.register, substrate=substrate) as served,
        open_database(database_url, "model-router") as database,
    ):
        channel = served.channels().open("model-router")
        stub, routing = ModelServiceStub(channel), RoutingServiceStub(channel)
        yield Router(stub, routing, database, provider, directory, new_id())
