"""model-router's composition root."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final
from urllib.parse import urlsplit

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
from meshwright_model_router.domain.access import ModelAccess
from meshwright_model_router.domain.catalogue import Catalogue, Deployment
from meshwright_model_router.domain.embedding import Embedder
from meshwright_model_router.domain.generation import Generation
from meshwright_model_router.domain.ports import ChatProvider, EmbeddingProvider
from meshwright_model_router.domain.pricing import Prices
from meshwright_model_router.providers.builtin_embeddings.process import (
    DIMENSIONS,
    open_builtin_embeddings,
)
from meshwright_model_router.providers.endpoint import Endpoint, OutputLimitField, Timeouts
from meshwright_model_router.providers.http import open_session
from meshwright_model_router.providers.offline.chat import CONTEXT_WINDOW, OfflineChat
from meshwright_model_router.providers.openai_chat import OpenAiChat
from meshwright_model_router.providers.openai_embeddings import OpenAiEmbeddings
from meshwright_model_router.providers.probe import probe
from meshwright_model_router.servicer import ModelServicer
from meshwright_model_router.settings import (
    BUILTIN_EMBEDDING,
    OFFLINE_MODEL,
    DeploymentSettings,
    ModelsSettings,
    Settings,
)

MODEL_SERVICE: Final = "meshwright.model_router.v1.ModelService"
ROUTING_SERVICE: Final = routing_service_pb2.DESCRIPTOR.services_by_name["RoutingService"].full_name
GUARD_SERVICE: Final = guard_service_pb2.DESCRIPTOR.services_by_name["GuardService"].full_name
BUDGET_SERVICE: Final = budget_service_pb2.DESCRIPTOR.services_by_name["BudgetService"].full_name

OFFLINE: Final = Deployment(
    name=OFFLINE_MODEL,
    provider="offline",
    model=OFFLINE_MODEL,
    context_window=CONTEXT_WINDOW,
    capabilities=("tools", "json_schema"),
)
BUILTIN: Final = Deployment(
    name=BUILTIN_EMBEDDING,
    provider="builtin",
    model=BUILTIN_EMBEDDING,
    embedding_dimensions=DIMENSIONS,
)


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
        chat: list[tuple[Deployment, ChatProvider]] = [(OFFLINE, OfflineChat())]
        embedding: list[tuple[Deployment, EmbeddingProvider]] = [(BUILTIN, builtin)]
        for one in models.all_deployments():
            deployment, endpoint = _deployment(one), _endpoint(one, models)
            if one.embedding_dimensions:
                vectors = OpenAiEmbeddings(session, endpoint, one.embedding_dimensions)
                embedding.append((deployment, vectors))
            else:
                chat.append((deployment, OpenAiChat(session, endpoint)))
        catalogue = Catalogue(
            chat,
            embedding,
            default=models.default_model(),
            default_embedding=models.default_embedding_model(),
        )
        quotas = Quotas(
            DirectoryServiceStub(channels.open("session")), settings.service, settings.quotas
        )
        # Vectors of two models do not mix: what the platform embeds with is in every plan.
        always = {OFFLINE.name, BUILTIN.name, models.default_embedding_model()}
        access = ModelAccess(catalogue, quotas, always=frozenset(always))
        servicer = ModelServicer(
            catalogue,
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
            Check(f"model {one.name}", partial(probe, session, _endpoint(one, models)))
            for one in models.all_deployments()
        )


def _deployment(one: DeploymentSettings) -> Deployment:
    prices = one.prices
    return Deployment(
        name=one.name,
        provider=one.provider,
        model=one.model or one.name,
        context_window=one.context_window,
        capabilities=one.capabilities,
        prices=Prices(prices.input_micro_usd, prices.output_micro_usd, prices.cached_micro_usd),
        embedding_dimensions=one.embedding_dimensions,
    )


def _endpoint(one: DeploymentSettings, models: ModelsSettings) -> Endpoint:
    short = one not in models.deployments
    timeouts = one.timeouts or models.timeouts
    key_setting = "MESHWRIGHT_MODELS__API_KEY" if short else f"api_key of deployment {one.name!r}"
    return Endpoint(
        deployment=one.name,
        base_url=one.base_url,
        api_key=one.key,
        base_url_setting=(
            "MESHWRIGHT_MODELS__BASE_URL" if short else f"base_url of deployment {one.name!r}"
        ),
        api_key_setting=one.api_key_env or key_setting,
        timeouts=Timeouts(
            connect=timeouts.connect_seconds,
            first_byte=timeouts.first_byte_seconds,
            idle=timeouts.idle_seconds,
            total=timeouts.total_seconds,
        ),
        output_limit_field=_output_limit_field(one),
        stream_usage=one.stream_usage,
    )


def _output_limit_field(one: DeploymentSettings) -> OutputLimitField:
    if one.output_limit_field != "auto":
        return one.output_limit_field
    host = urlsplit(one.base_url).hostname or ""
    # OpenAI's reasoning models refuse the old name; many other servers do not know the new one.
    if host == "api.openai.com" or host.endswith(".openai.azure.com"):
        return "max_completion_tokens"
    return "max_tokens"
