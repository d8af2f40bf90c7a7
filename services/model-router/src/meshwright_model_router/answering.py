"""What stands before a generation: guards on input, stored answers, guards on output."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from meshwright_common.app import BackgroundTask
from meshwright_common.clock import Clock
from meshwright_common.context import principal
from meshwright_common.encryption import open_key_ring
from meshwright_common.erasure.redis_keys import StoredKeys
from meshwright_common.erasure.stored import StoredData
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.redis import open_redis
from meshwright_common.telemetry.logging import get_logger
from meshwright_model_router.adapters.cache_log import UsageCacheLog
from meshwright_model_router.adapters.guard_log import AuditedGuardLog
from meshwright_model_router.adapters.guard_tables import GuardBook
from meshwright_model_router.adapters.question_vectors import EmbeddedQuestions
from meshwright_model_router.adapters.redis_answers import FAMILY, RedisAnswers
from meshwright_model_router.domain.access import ModelAccess
from meshwright_model_router.domain.caching.cached_generation import CachedGeneration
from meshwright_model_router.domain.caching.flights import Flights
from meshwright_model_router.domain.call import Generator, ModelCall
from meshwright_model_router.domain.embedding import Embedder
from meshwright_model_router.domain.guards.guarded_input import GuardedInput
from meshwright_model_router.domain.guards.guarded_output import GuardedOutput
from meshwright_model_router.domain.ports import UsageLog
from meshwright_model_router.domain.routing_table import RoutingTables
from meshwright_model_router.domain.usage import Operation
from meshwright_model_router.settings import Settings

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answering:
    """The generator that answers calls, and what goes with it."""

    generator: Generator
    tasks: tuple[BackgroundTask, ...]
    stores: tuple[StoredData, ...]


@dataclass(frozen=True, slots=True)
class ModelNames:
    """What callers mean when they name no model."""

    tables: RoutingTables

    def __call__(self, name: str) -> str:
        return name or self.of(Operation.GENERATE)

    def of(self, operation: Operation) -> str:
        """Return the caller's default model for something."""
        return self.tables.of(principal().tenant_id).default(operation)


class RoutedAdmission:
    """`Admission` by the caller's plan and the routing in force."""

    def __init__(self, access: ModelAccess) -> None:
        self._access = access

    async def admit(self, call: ModelCall) -> str:
        grant = await self._access.grant(call.model, Operation.GENERATE)
        # A plan decides which of several deployments may answer.
        return "|".join((grant.model, grant.table.version, *grant.quota.models))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the layers need of the rest of the service."""

    database: Database
    book: GuardBook
    access: ModelAccess
    tables: RoutingTables
    embedder: Embedder
    usage_log: UsageLog
    clock: Clock


@asynccontextmanager
async def open_answering(
    settings: Settings, generation: Generator, around: Surroundings
) -> AsyncIterator[Answering]:
    """Put the layers before `generation`; leaving the block ends the answers under way."""
    named = ModelNames(around.tables)
    log = AuditedGuardLog(around.database)
    flights = Flights()
    async with _open_store(settings, around) as (store, stores):
        cached = CachedGeneration(
            GuardedOutput(generation, log, named=named),
            store,
            RoutedAdmission(around.access),
            EmbeddedQuestions(around.embedder, lambda: named.of(Operation.EMBED)),
            UsageCacheLog(around.usage_log),
            flights,
            around.clock,
        )
        try:
            yield Answering(
                GuardedInput(cached, around.book, log, named=named),
                (BackgroundTask("guard-audit", log.run, log.stop),),
                stores,
            )
        finally:
            await flights.close()


@asynccontextmanager
async def _open_store(
    settings: Settings, around: Surroundings
) -> AsyncIterator[tuple[RedisAnswers | None, tuple[StoredData, ...]]]:
    """Give where answers are stored, None when nowhere, and what there is to erase."""
    answers = settings.models.answers
    if not settings.encryption.master_keys:
        # Nothing is stored that is not sealed.
        logger.warning("answers_not_stored", cause="no master key is set")
        yield None, ()
        return
    async with (
        open_redis(answers.redis(settings.redis)) as redis,
        open_key_ring(settings.encryption, around.database) as ring,
    ):
        store = RedisAnswers(
            redis,
            ring,
            around.clock,
            maximum_bytes=answers.maximum_answer_bytes,
            maximum_questions=answers.maximum_questions,
        )
        # Also when no more are stored: some may still be there.
        stored = StoredKeys(redis, FAMILY, store.keys_of_user)
        yield store if answers.enabled else None, (stored,)
