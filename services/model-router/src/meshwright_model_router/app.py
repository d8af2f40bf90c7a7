"""model-router's composition root."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import grpc.aio

# Loaded for their descriptors: these services are declared and not served yet.
from meshwright.model_router.v1 import (
    budget_service_pb2,
    guard_service_pb2,
    routing_service_pb2,
)
from meshwright.model_router.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceStub
from meshwright_common.app import App, BackgroundTask, Check
from meshwright_common.clock import SystemClock
from meshwright_common.quotas import Quotas
from meshwright_common.rpc.channels import Channels
from meshwright_common.rpc.unserved import add_unserved_service
from meshwright_common.storage.postgres import open_database
from meshwright_model_router.adapters.postgres_usage import open_usage_log
from meshwright_model_router.adapters.stored_data import stored_data
from meshwright_model_router.configured import BUILTIN, endpoint_of, operated
from meshwright_model_router.domain.access import ModelAccess
from meshwright_model_router.domain.embedding import Embedder
from meshwright_model_router.domain.generation import Generation
from meshwright_model_router.domain.routing_table import RoutingTables
from meshwright_model_router.providers.builtin_embeddings.process import open_builtin_embeddings
from meshwright_model_router.providers.http import open_session
from meshwright_model_router.providers.probe import probe
from meshwright_model_router.servicer import ModelServicer
from meshwright_model_router.settings import Settings

MODEL_SERVICE: Final = "meshwright.model_router.v1.ModelService"
ROUTING_SERVICE: Final = routing_service_pb2.DESCRIPTOR.services_by_name["RoutingService"].full_name
GUARD_SERVICE: Final = guard_service_pb2.DESCRIPTOR.services_by_name["GuardService"].full_name
BUDGET_SERVICE: Final = budget_service_pb2.DESCRIPTOR.services_by_name["BudgetService"].full_name


@asynccontextmanager
async def build(settings: Settings, channels: Channels) -> AsyncIterator[App]:
    """Build the service; leaving the block writes the usage that waits and closes all else."""
    models = settings.models
    clock = SystemClock()
    async with (
        open_database(settings.database, settings.service) as database,
        open_usage_log(database) as usage_log,
        open_session(models.maximum_connections) as session,
        open_builtin_embeddings() as builtin,
    ):
        tables = RoutingTables(operated(models, session, builtin))
        quotas = Quotas(
            DirectoryServiceStub(channels.open("session")), settings.service, settings.quotas
        )
        access = ModelAccess(tables, quotas)
        servicer = ModelServicer(
            tables,
            access,
            Generation(access, usage_log, clock),
            Embedder(access, usage_log, clock, free_providers=frozenset({BUILTIN.provider})),
        )

        def register(server: grpc.aio.Server) -> None:
            add_ModelServiceServicer_to_server(servicer, server)
            add_unserved_service(ROUTING_SERVICE, server)
            add_unserved_service(GUARD_SERVICE, server)
            add_unserved_service(BUDGET_SERVICE, server)

        yield App(
            name=settings.service,
            register=register,
            service_names=(MODEL_SERVICE, ROUTING_SERVICE, GUARD_SERVICE, BUDGET_SERVICE),
            tasks=(BackgroundTask("warm-up-embeddings", builtin.warm_up),),
            # Not the providers: one that is away must not keep the platform from starting.
            checks=(Check("database", database.probe),),
            stores=stored_data(database),
        )


@asynccontextmanager
async def provider_checks(settings: Settings) -> AsyncIterator[tuple[Check, ...]]:
    """Give one check for each provider configured, for `meshwright doctor`.

    `probe` raises when the provider cannot be reached or refuses the key, and says what to check.
    """
    models = settings.models
    async with open_session(models.maximum_connections) as session:
        yield tuple(
            Check(f"model {one.name}", partial(probe, session, endpoint_of(one, models)))
            for one in models.all_deployments()
        )
