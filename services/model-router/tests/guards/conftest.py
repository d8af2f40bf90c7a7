"""GuardService and Generate, served on a real database in front of the simulator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import orjson
import pytest
import pytest_asyncio

from meshwright.model_router.v1 import generation_pb2, guard_service_pb2, model_service_pb2
from meshwright.model_router.v1.guard_service_pb2_grpc import GuardServiceStub
from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceStub
from meshwright.types.v1 import message_pb2
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings, RedisSettings
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.encryption import encryption_settings
from meshwright_common.testing.mesh import calling_as, collect, serving
from meshwright_common.testing.quotas import QuotaDirectory
from meshwright_model_router.app import build
from meshwright_model_router.settings import ModelsSettings, Settings

if TYPE_CHECKING:
    from meshwright.model_router.v1.guard_service_pb2_grpc import GuardServiceAsyncStub
    from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceAsyncStub

INPUT = guard_service_pb2.GUARD_SIDE_INPUT
FILE = """
guards:
  - name: house-rules
    side: input
    action: block
    words: {phrases: [forbidden fruit]}
"""


@dataclass
class Served:
    """One replica, with its background work."""

    guards: GuardServiceAsyncStub
    models: ModelServiceAsyncStub
    database: Database
    tenant: str = field(default_factory=new_id)

    async def put(
        self, guard: guard_service_pb2.Guard, tenant: str = ""
    ) -> guard_service_pb2.Guard:
        with calling_as(tenant or self.tenant, "guard:write"):
            answer = await self.guards.SetGuard(guard_service_pb2.SetGuardRequest(guard=guard))
        return answer.guard

    async def names(self, tenant: str = "") -> list[str]:
        with calling_as(tenant or self.tenant, "guard:read"):
            answer = await self.guards.ListGuards(guard_service_pb2.ListGuardsRequest())
        return [guard.name for guard in answer.guards]

    async def check(
        self, text: str, side: guard_service_pb2.GuardSide.ValueType = INPUT, tenant: str = ""
    ) -> guard_service_pb2.CheckTextResponse:
        with calling_as(tenant or self.tenant, "guard:read"):
            return await self.guards.CheckText(
                guard_service_pb2.CheckTextRequest(text=text, side=side)
            )

    async def generate(self, text: str, model: str) -> list[generation_pb2.GenerateEvent]:
        part = message_pb2.ContentPart(text=text)
        request = model_service_pb2.GenerateRequest(
            model=model, messages=[message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part])]
        )
        responses: list[model_service_pb2.GenerateResponse] = []
        with calling_as(self.tenant, "model:invoke"):
            await collect(self.models.Generate(request), responses)
        return [response.event for response in responses]

    async def audited(self) -> list[dict[str, object]]:
        async with unit_of_work(self.database, self.tenant) as connection:
            found = await connection.fetch(
                "SELECT body FROM events.outbox WHERE tenant_id = $1 AND topic = 'audit.log'",
                self.tenant,
            )
        return [orjson.loads(row["body"])["data"] for row in found]


@asynccontextmanager
async def replica(settings: Settings) -> AsyncIterator[Served]:
    """Run one replica: the service with its background work."""
    directory = QuotaDirectory()
    async with (
        serving(directory.register) as peers,
        build(settings, peers.channels("model-router")) as app,
        serving(app.register) as served,
        open_database(settings.database, "model-router") as database,
    ):
        channel = served.channels().open("model-router")
        running = [
            asyncio.ensure_future(task.run())
            for task in app.tasks
            if task.name in {"tenants-changes", "guard-audit", "models-file"}
        ]
        try:
            yield Served(GuardServiceStub(channel), ModelServiceStub(channel), database)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


@pytest.fixture
def settings_of(
    database_url: DatabaseSettings, redis_settings: RedisSettings, models: ModelsSettings
) -> Callable[..., Settings]:
    """Return settings, `changes` made to those of the models."""

    def make(**changes: object) -> Settings:
        content = {name: getattr(models, name) for name in ModelsSettings.model_fields}
        return Settings(
            database=database_url,
            redis=redis_settings,
            encryption=encryption_settings(),
            models=ModelsSettings(**{**content, **changes}),
        )

    return make


@pytest_asyncio.fixture
async def served(settings_of: Callable[..., Settings], tmp_path: Path) -> AsyncIterator[Served]:
    file = tmp_path / "models.yaml"
    file.write_text(FILE)
    async with replica(settings_of(file=file)) as running:
        yield running


Replica: TypeAlias = Callable[[Settings], AbstractAsyncContextManager[Served]]


@pytest.fixture(name="replica")
def replica_fixture() -> Replica:
    """Run one replica of these settings."""
    return replica
