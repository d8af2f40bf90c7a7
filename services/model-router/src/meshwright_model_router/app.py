"""model-router's composition root."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

import grpc.aio

# Loaded for their descriptors: these services are declared and not served yet.
from meshwright.model_router.v1 import (
    budget_service_pb2,
    guard_service_pb2,
    routing_service_pb2,
)
from meshwright.model_router.v1.budget_service_pb2_grpc import add_BudgetServiceServicer_to_server
from meshwright.model_router.v1.guard_service_pb2_grpc import add_GuardServiceServicer_to_server
from meshwright.model_router.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from meshwright.model_router.v1.routing_service_pb2_grpc import (
    add_RoutingServiceServicer_to_server,
)
from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceStub
from meshwright_common.app import App, BackgroundTask, Check
from meshwright_common.clock import SystemClock
from meshwright_common.quotas import Quotas
from meshwright_common.rpc.channels import Channels
from meshwright_common.storage.change_feed import Feed
from meshwright_common.storage.postgres import open_database
from meshwright_common.storage.redis import open_redis
from meshwright_model_router.adapters import health_changes
from meshwright_model_router.adapters.budgeting import open_budgets
from meshwright_model_router.adapters.change_feed import ChangeFeed
from meshwright_model_router.adapters.guard_tables import DOOR, GuardBook
from meshwright_model_router.adapters.postgres_guards import PostgresGuards
from meshwright_model_router.adapters.postgres_routing import PostgresRouting
from meshwright_model_router.adapters.postgres_usage import open_usage_log
from meshwright_model_router.adapters.public_hosts import judge_host
from meshwright_model_router.adapters.redis_health import RedisHealth
from meshwright_model_router.adapters.routing_feed import routing_feed
from meshwright_model_router.adapters.stored_data import stored_data
from meshwright_model_router.answering import ModelNames, Surroundings, open_answering
from meshwright_model_router.budget_servicer import BudgetServicer
from meshwright_model_router.configuration import Configuration, endpoints
from meshwright_model_router.configured import BUILTIN
from meshwright_model_router.domain.access import ModelAccess
from meshwright_model_router.domain.attempts import AttemptRules
from meshwright_model_router.domain.choosing import Choosing
from meshwright_model_router.domain.embedding import Embedder
from meshwright_model_router.domain.explaining import Explaining
from meshwright_model_router.domain.generation import Generation
from meshwright_model_router.domain.guards.administration import GuardAdministration
from meshwright_model_router.domain.health import Health
from meshwright_model_router.domain.health_sharing import HealthSharing
from meshwright_model_router.domain.moderation import Moderator
from meshwright_model_router.domain.rerank import Reranker
from meshwright_model_router.domain.routing_administration import RoutingAdministration
from meshwright_model_router.domain.unary import UnaryCalls
from meshwright_model_router.guard_configuration import OperatorGuards
from meshwright_model_router.providers.builtin_embeddings.process import open_builtin_embeddings
from meshwright_model_router.providers.http import open_session
from meshwright_model_router.providers.judges import GuardJudges
from meshwright_model_router.providers.probe import probe
from meshwright_model_router.servicer import ModelServicer
from meshwright_model_router.servicer_guards import GuardServicer
from meshwright_model_router.servicer_routing import RoutingServicer
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
    quotas = Quotas(
        DirectoryServiceStub(channels.open("session")), settings.service, settings.quotas
    )
    async with (
        open_database(settings.database, settings.service) as database,
        open_redis(settings.redis) as redis,
        open_budgets(settings.limits, database, redis, quotas, clock) as budgeting,
        open_usage_log(database) as usage_log,
        open_session(models.maximum_connections) as session,
        open_builtin_embeddings() as builtin,
        AsyncExitStack() as stack,
    ):
        # Guards ask for the permits when they judge: the configuration has them then.
        judges = GuardJudges(session, lambda: configuration.permits, models.python_guards)
        book = GuardBook(judges)
        operator_guards = OperatorGuards(book, models.guards)
        configuration = Configuration(models, session, builtin, operator_guards.take)
        tables = configuration.tables
        access = ModelAccess(tables, quotas)
        changes = ChangeFeed(database, [routing_feed(tables), Feed(DOOR, book.take)])
        administration = RoutingAdministration(
            PostgresRouting(database), tables, quotas, configuration, judge_host, clock
        )
        health = Health(clock)
        health.listen(health_changes.observe)
        sharing = HealthSharing(health, RedisHealth(redis), on_alone=health_changes.observe_alone)
        choosing = Choosing(health, clock)
        rules = AttemptRules(choosing, channels.retry_budgets, sharing.grant_wanted)
        budgets = budgeting.budgets
        unary = UnaryCalls(
            rules, budgets, usage_log, clock, free_providers=frozenset({BUILTIN.provider})
        )
        embedder = Embedder(access, unary)
        generation = Generation(access, rules, budgets, usage_log, clock)
        around = Surroundings(database, book, access, tables, embedder, usage_log, clock)
        answering = await stack.enter_async_context(open_answering(settings, generation, around))
        guards = GuardAdministration(
            PostgresGuards(database), book, judges, named=ModelNames(tables)
        )
        servicer = ModelServicer(
            tables,
            access,
            answering.generator,
            embedder,
            Reranker(access, unary),
            Moderator(access, unary),
        )

        def register(server: grpc.aio.Server) -> None:
            add_ModelServiceServicer_to_server(servicer, server)
            routing = RoutingServicer(administration, health, Explaining(access, choosing))
            add_RoutingServiceServicer_to_server(routing, server)
            guard_servicer = GuardServicer(guards, lambda: configuration.permits)
            add_GuardServiceServicer_to_server(guard_servicer, server)
            add_BudgetServiceServicer_to_server(BudgetServicer(budgets), server)

        yield App(
            name=settings.service,
            register=register,
            service_names=(MODEL_SERVICE, ROUTING_SERVICE, GUARD_SERVICE, BUDGET_SERVICE),
            tasks=(
                BackgroundTask("warm-up-embeddings", builtin.warm_up),
                BackgroundTask("model-health", sharing.run, sharing.stop),
                BackgroundTask("models-file", configuration.watch),
                BackgroundTask("tenants-changes", changes.run),
                BackgroundTask("budgets", budgeting.keeping.run),
                *answering.tasks,
            ),
            # Not the providers: one that is away must not keep the platform from starting.
            checks=(Check("database", database.probe), Check("routing", changes.probe)),
            stores=(*stored_data(database, redis), *answering.stores),
        )


@asynccontextmanager
async def provider_checks(settings: Settings) -> AsyncIterator[tuple[Check, ...]]:
    """Give one check for each provider configured, for `meshwright doctor`.

    `probe` raises when the provider cannot be reached or refuses the key, and says what to check.
    Raises: SettingsError when something is wrong with the file of models.
    """
    models = settings.models
    async with open_session(models.maximum_connections) as session:
        yield tuple(
            Check(f"model {name}", partial(probe, session, endpoint))
            for name, endpoint in endpoints(models)
        )
