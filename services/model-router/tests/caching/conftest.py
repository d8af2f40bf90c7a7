"""A cache on a real Valkey, sealed by real keys, before a generator that counts calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import pytest_asyncio

from meshwright_common.clock import SystemClock
from meshwright_common.context import CallContext, Principal, bind
from meshwright_common.errors import ServiceError
from meshwright_common.ids import new_id
from meshwright_common.settings import RedisSettings
from meshwright_common.storage.redis import RedisClient, open_redis
from meshwright_common.testing.encryption import key_ring
from meshwright_common.testing.engines import ServiceDatabase
from meshwright_common.testing.waiting import eventually
from meshwright_model_router.adapters.redis_answers import RedisAnswers
from meshwright_model_router.domain.caching.cached_generation import CachedGeneration
from meshwright_model_router.domain.caching.flights import Flights
from meshwright_model_router.domain.call import CacheUse, ModelCall
from meshwright_model_router.domain.conversation import Message, Prompt, Role
from meshwright_model_router.domain.output import (
    CacheStatus,
    Finished,
    FinishReason,
    GenerationOutput,
    Piece,
    Restarted,
    Started,
    TokenUsage,
)
from meshwright_model_router.domain.usage import Attribution


@dataclass
class Model:
    """A generator: counts calls, waits at `gate` after its first piece, ends as told."""

    calls: int = 0
    closed: int = 0
    reason: FinishReason = FinishReason.STOP
    error: ServiceError | None = None
    gate: asyncio.Event | None = None
    restarts: bool = False
    pieces: tuple[Piece, ...] = (Piece("It is "), Piece("so."), Piece(reasoning="why"))

    async def generate(self, call: ModelCall) -> AsyncGenerator[GenerationOutput, None]:
        self.calls += 1
        try:
            yield Started("real-name", "deployment")
            yield replace(self.pieces[0], text=f"{self.calls}: {self.pieces[0].text}")
            if self.gate is not None:
                await self.gate.wait()
            if self.restarts:
                yield Restarted("PROVIDER_TRUNCATED", "other", "other")
            if self.error is not None:
                raise self.error
            for piece in self.pieces[1:]:
                yield piece
            yield Finished(self.reason, TokenUsage(7, 3, cost_micro_usd=11))
        finally:
            self.closed += 1


@dataclass
class Access:
    """Says what stands for the routing, or refuses."""

    standing: str = "table-1"
    error: ServiceError | None = None

    async def admit(self, call: ModelCall) -> str:
        if self.error is not None:
            raise self.error
        return f"{self.standing}|{call.model}"


@dataclass
class Meanings:
    """Vectors as a test gives them."""

    vectors: dict[str, list[float]] = field(default_factory=dict)
    asked: int = 0
    model: str = "meanings"

    async def vector(self, call: ModelCall, question: str) -> Sequence[float]:
        self.asked += 1
        return self.vectors[question]


@dataclass
class Log:
    """What the cache told."""

    statuses: list[CacheStatus] = field(default_factory=list)

    def told(self, call: ModelCall, started: Started) -> None:
        self.statuses.append(started.cache_status)


@dataclass
class Cache:
    """Everything around one cache."""

    cached: CachedGeneration
    model: Model
    access: Access
    meanings: Meanings
    log: Log
    redis: RedisClient
    store: RedisAnswers
    flights: Flights
    caller: Principal

    @staticmethod
    def call(text: str, **changes: Any) -> ModelCall:
        return call(text, **changes)

    @staticmethod
    def status_of(outputs: Sequence[GenerationOutput]) -> CacheStatus:
        return status_of(outputs)

    @staticmethod
    def text_of(outputs: Sequence[GenerationOutput]) -> str:
        return "".join(one.text for one in outputs if isinstance(one, Piece))

    async def settled(self) -> None:
        """Wait until all answers are stored."""
        await eventually(lambda: self.flights.count == 0)

    async def ask(
        self, text: str = "Why?", *, caller: Principal | None = None, **changes: Any
    ) -> list[GenerationOutput]:
        outputs: list[GenerationOutput] = []
        with bind(CallContext(caller or self.caller)):
            async with aclosing(self.cached.generate(call(text, **changes))) as stream:
                async for output in stream:
                    outputs.append(output)  # noqa: PERF401 -- what came before an error counts
        return outputs

    async def status(
        self, text: str = "Why?", *, caller: Principal | None = None, **changes: Any
    ) -> CacheStatus:
        outputs = await self.ask(text, caller=caller, **changes)
        return status_of(outputs)


def call(text: str, **changes: Any) -> ModelCall:
    prompt = Prompt((Message(Role.SYSTEM, ("Be brief.",)), Message(Role.USER, (text,))))
    made = ModelCall("fast", prompt, Attribution(new_id()), cache=CacheUse())
    return replace(made, **changes)


def status_of(outputs: Sequence[GenerationOutput]) -> CacheStatus:
    started = outputs[0]
    assert isinstance(started, Started)
    return started.cache_status


@pytest_asyncio.fixture
async def cache(
    redis_settings: RedisSettings, service_database: ServiceDatabase
) -> AsyncIterator[Cache]:
    database = await service_database("meshwright_model_router")
    model, access, meanings, log, flights = Model(), Access(), Meanings(), Log(), Flights()
    async with open_redis(redis_settings) as redis:
        clock = SystemClock()
        store = RedisAnswers(
            redis, key_ring(database), clock, maximum_bytes=4096, maximum_questions=3
        )
        cached = CachedGeneration(model, store, access, meanings, log, flights, clock)
        caller = Principal(new_id(), new_id(), "user", frozenset({"model:invoke"}), ("member",))
        yield Cache(cached, model, access, meanings, log, redis, store, flights, caller)
        await flights.close()
