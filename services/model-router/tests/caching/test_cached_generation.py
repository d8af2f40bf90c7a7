"""Stored answers on a real Valkey, sealed by real keys, before a generator that counts calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import pytest_asyncio

from meshwright_common.clock import SystemClock
from meshwright_common.context import CallContext, Principal, bind
from meshwright_common.erasure.redis_keys import StoredKeys
from meshwright_common.erasure.stored import Subject
from meshwright_common.errors import PermissionDenied, ServiceError, Unavailable
from meshwright_common.ids import new_id
from meshwright_common.settings import RedisSettings
from meshwright_common.storage.redis import RedisClient, open_redis
from meshwright_common.testing.encryption import key_ring
from meshwright_common.testing.engines import ServiceDatabase
from meshwright_common.testing.waiting import eventually
from meshwright_model_router.adapters.redis_answers import FAMILY, RedisAnswers
from meshwright_model_router.domain.caching.cached_generation import CachedGeneration
from meshwright_model_router.domain.caching.flights import Flights
from meshwright_model_router.domain.call import CacheUse, ModelCall
from meshwright_model_router.domain.conversation import (
    Image,
    Message,
    Options,
    Prompt,
    Role,
    ToolDefinition,
)
from meshwright_model_router.domain.guards.guard_set import GuardSet
from meshwright_model_router.domain.output import (
    CacheStatus,
    Finished,
    FinishReason,
    GenerationOutput,
    Piece,
    Restarted,
    Started,
    TokenUsage,
    ToolCallPiece,
)
from meshwright_model_router.domain.usage import Attribution

HIT, MISS, BYPASS = CacheStatus.HIT, CacheStatus.MISS, CacheStatus.BYPASS
NEAR = CacheStatus.SEMANTIC_HIT


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


def text_of(outputs: Sequence[GenerationOutput]) -> str:
    return "".join(one.text for one in outputs if isinstance(one, Piece))


@pytest_asyncio.fixture
async def cache(
    redis_settings: RedisSettings, service_database: ServiceDatabase
) -> AsyncIterator[Cache]:
    database = await service_database("meshwright_model_router")
    model, access, meanings, log, flights = Model(), Access(), Meanings(), Log(), Flights()
    async with open_redis(redis_settings) as redis:
        store = RedisAnswers(redis, key_ring(database), maximum_bytes=4096, maximum_questions=3)
        cached = CachedGeneration(model, store, access, meanings, log, flights, SystemClock())
        caller = Principal(new_id(), new_id(), "user", frozenset({"model:invoke"}), ("member",))
        yield Cache(cached, model, access, meanings, log, redis, store, flights, caller)
        await flights.close()


@pytest.mark.asyncio
async def test_same_call_is_told_again_and_costs_nothing(cache: Cache) -> None:
    first = await cache.ask()
    second = await cache.ask()
    assert (status_of(first), status_of(second)) == (MISS, HIT)
    assert cache.model.calls == 1
    assert text_of(second) == text_of(first) == "1: It is so."
    assert [one.reasoning for one in second if isinstance(one, Piece)][-1] == "why"
    started, finished = second[0], second[-1]
    assert isinstance(started, Started)
    assert (started.model, started.deployment) == ("real-name", "deployment")
    assert started.cache_age_seconds is not None
    assert isinstance(finished, Finished)
    assert finished.usage == TokenUsage()
    assert cache.log.statuses == [MISS, HIT]


@pytest.mark.asyncio
async def test_without_opting_in_nothing_is_looked_up_or_stored(cache: Cache) -> None:
    for _ in range(2):
        assert await cache.status(cache=None) is CacheStatus.NONE
    assert cache.model.calls == 2
    assert await cache.redis.execute_command("DBSIZE") == 0


@pytest.mark.asyncio
async def test_other_tenants_rights_routing_and_guards_get_nothing_of_it(cache: Cache) -> None:
    """pains.md 29: who may see an answer, and what decided it, is part of its name."""
    await cache.ask()
    mine = cache.caller
    others = [
        replace(mine, tenant_id=new_id()),
        replace(mine, permissions=frozenset({"model:invoke", "kb:read"})),
        replace(mine, roles=("admin",)),
        replace(mine, kind="service"),
    ]
    for caller in others:
        assert await cache.status(caller=caller) is MISS
    assert await cache.status(guards=GuardSet((), "changed")) is MISS
    cache.access.standing = "table-2"
    assert await cache.status() is MISS
    cache.access.standing = "table-1"
    assert await cache.status(caller=replace(mine, subject=new_id())) is HIT
    assert await cache.status() is HIT


@pytest.mark.asyncio
async def test_private_answers_are_for_one_user(cache: Cache) -> None:
    private = CacheUse(private=True)
    await cache.ask(cache=private)
    assert await cache.status(caller=replace(cache.caller, subject=new_id()), cache=private) is MISS
    assert await cache.status() is MISS
    assert await cache.status(cache=private) is HIT


@pytest.mark.asyncio
async def test_every_part_of_the_request_counts(cache: Cache) -> None:
    await cache.ask()
    prompt = call("Why?").prompt
    image = Message(Role.USER, ("Why?", Image(data=b"one", media_type="image/png")))
    other = Message(Role.USER, ("Why?", Image(data=b"two", media_type="image/png")))
    changes: list[dict[str, Any]] = [
        {"model": "slow"},
        {"prompt": replace(prompt, options=Options(temperature=0.5))},
        {"prompt": replace(prompt, tools=(ToolDefinition("look"),))},
        {"prompt": replace(prompt, messages=prompt.messages[1:])},
        {"prompt": replace(prompt, messages=(image,))},
        {"prompt": replace(prompt, messages=(other,))},
    ]
    assert [await cache.status(**change) for change in changes] == [MISS] * len(changes)
    assert [await cache.status(**change) for change in changes] == [HIT] * len(changes)


@pytest.mark.asyncio
async def test_who_may_not_use_the_model_is_told_no_stored_answer(cache: Cache) -> None:
    await cache.ask()
    cache.access.error = PermissionDenied("not in your plan")
    with pytest.raises(PermissionDenied):
        await cache.ask()


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["length", "filter", "restarted", "failed", "large", "no_store"])
async def test_what_is_not_whole_is_not_stored(cache: Cache, how: str) -> None:
    """F-55: truncated answers are not cached."""
    use = CacheUse(no_store=how == "no_store")
    if how in {"length", "filter"}:
        cache.model.reason = FinishReason("length" if how == "length" else "content_filter")
    cache.model.restarts = how == "restarted"
    cache.model.error = Unavailable("broken") if how == "failed" else None
    if how == "large":
        cache.model.pieces = (Piece("a"), Piece("b" * 5000))
    for _ in range(2):
        if how == "failed":
            with pytest.raises(Unavailable):
                await cache.ask(cache=use)
        else:
            assert await cache.status(cache=use) is MISS
    assert cache.model.calls == 2
    assert await cache.redis.execute_command("DBSIZE") == 0


@pytest.mark.asyncio
async def test_refresh_makes_a_new_answer_and_keeps_it(cache: Cache) -> None:
    await cache.ask()
    assert await cache.status(cache=CacheUse(refresh=True)) is MISS
    assert text_of(await cache.ask()) == "2: It is so."


@pytest.mark.asyncio
async def test_answers_end_with_their_lifetime(cache: Cache) -> None:
    await cache.ask(cache=CacheUse(seconds=1))
    await cache.settled()

    async def is_gone() -> bool:
        return not await cache.redis.execute_command("KEYS", "*:exact:*")

    await eventually(is_gone)
    assert await cache.status() is MISS


@pytest.mark.asyncio
async def test_redis_has_neither_text_nor_a_name_that_tells(cache: Cache) -> None:
    cache.meanings.vectors = {"Why canary?": [1.0, 0.0]}
    await cache.ask("Why canary?", cache=CacheUse(semantic=True))
    await cache.settled()
    stored = b""
    for key in await cache.redis.execute_command("KEYS", "*"):
        stored += key + await cache.redis.execute_command("DUMP", key)
    assert len(stored) > 200
    for word in (b"canary", b"It is", b"real-name", b"Be brief"):
        assert word not in stored


@pytest.mark.asyncio
async def test_emptied_redis_is_a_miss_and_a_lost_one_a_bypass(cache: Cache) -> None:
    await cache.ask()
    await cache.settled()
    await cache.redis.execute_command("FLUSHALL")
    assert await cache.status() is MISS
    await cache.settled()
    away = RedisSettings(url="redis://127.0.0.1:1/0")
    async with open_redis(away) as client:
        cache.store._client = client
        outputs = await cache.ask()
    assert status_of(outputs) is BYPASS
    assert text_of(outputs) == "3: It is so."


@pytest.mark.asyncio
async def test_calls_at_once_make_one_generation(cache: Cache) -> None:
    cache.model.gate = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(cache.ask()) for _ in range(50)]
        await eventually(lambda: cache.model.calls == 1)
        cache.model.gate.set()
    assert cache.model.calls == 1
    assert {text_of(one.result()) for one in asked} == {"1: It is so."}
    statuses = [status_of(one.result()) for one in asked]
    assert (statuses.count(MISS), statuses.count(HIT)) == (1, 49)


@pytest.mark.asyncio
async def test_the_others_go_on_when_the_first_leaves_and_the_last_ends_it(cache: Cache) -> None:
    cache.model.gate = asyncio.Event()
    first = asyncio.create_task(cache.ask())
    await eventually(lambda: cache.model.calls == 1)
    second = asyncio.create_task(cache.ask())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    assert cache.model.closed == 0
    second.cancel()
    await asyncio.wait([second])
    assert cache.model.closed == 1
    third = asyncio.create_task(cache.ask())
    await eventually(lambda: cache.model.calls == 2)
    cache.model.gate.set()
    assert text_of(await third) == "2: It is so."


@pytest.mark.asyncio
async def test_tool_calls_are_told_again(cache: Cache) -> None:
    cache.model.reason = FinishReason.TOOL_CALLS
    parts = (ToolCallPiece(0, "id", "look", '{"q":'), ToolCallPiece(0, arguments="1}"))
    cache.model.pieces = (Piece("x"), *(Piece(tool_calls=(part,)) for part in parts))
    await cache.ask()
    told = await cache.ask()
    assert status_of(told) is HIT
    pieces = [part for one in told if isinstance(one, Piece) for part in one.tool_calls]
    assert tuple(pieces) == parts


@pytest.mark.asyncio
async def test_a_question_that_means_the_same_has_the_same_answer(cache: Cache) -> None:
    cache.meanings.vectors = {
        "What is the capital?": [1.0, 0.0],
        "Tell me the capital": [0.96, 0.28],
        "Who are you?": [0.0, 1.0],
    }
    use = CacheUse(semantic=True, min_similarity=0.95)
    assert await cache.status("What is the capital?", cache=use) is MISS
    assert await cache.status("Tell me the capital", cache=use) is NEAR
    assert await cache.status("Who are you?", cache=use) is MISS
    strict = CacheUse(semantic=True, min_similarity=0.99)
    assert await cache.status("Tell me the capital", cache=strict) is MISS
    exact = await cache.status("What is the capital?", caller=replace(cache.caller, roles=("x",)))
    assert exact is MISS


@pytest.mark.asyncio
async def test_numbers_and_negations_do_not_mean_the_same(cache: Cache) -> None:
    texts = ["Add 2 and 3", "Add 2 and 4", "Do not add 2 and 3", "可以吗", "不可以吗"]
    cache.meanings.vectors = {text: [1.0, 0.0] for text in texts}
    use = CacheUse(semantic=True)
    assert [await cache.status(text, cache=use) for text in texts] == [MISS] * 5


@pytest.mark.asyncio
async def test_a_scope_keeps_the_newest_questions(cache: Cache) -> None:
    axes = {f"Question {'abcd'[axis]}": [float(axis == i) for i in range(4)] for axis in range(4)}
    cache.meanings.vectors = axes | {f"{text} again": axes[text] for text in axes}
    use = CacheUse(semantic=True)
    for text in axes:
        await cache.ask(text, cache=use)
    await cache.settled()
    statuses = [
        await cache.status(f"{text} again", cache=CacheUse(True, no_store=True)) for text in axes
    ]
    assert statuses == [MISS, NEAR, NEAR, NEAR]


@pytest.mark.asyncio
async def test_answers_that_a_user_made_go_with_the_user(cache: Cache) -> None:
    """features.md S12: erasure in every cache."""
    cache.meanings.vectors = {"Why?": [1.0, 0.0]}
    await cache.ask(cache=CacheUse(semantic=True))
    other = replace(cache.caller, subject=new_id())
    await cache.ask("Who?", caller=other)
    await cache.settled()
    stored = StoredKeys(cache.redis, FAMILY, cache.store.keys_of_user)
    subject = Subject(cache.caller.tenant_id, cache.caller.subject)
    assert await stored.erase(subject) == 3
    assert await stored.remaining(subject) == 0
    assert await cache.status("Who?", caller=other) is HIT
    whole = Subject(cache.caller.tenant_id)
    assert await stored.erase(whole) > 0
    assert await cache.redis.execute_command("DBSIZE") == 0
