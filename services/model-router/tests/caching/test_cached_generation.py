"""Answers to the very same request: whose they are, what is kept, and when they are let go."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from meshwright_common.erasure.redis_keys import StoredKeys
from meshwright_common.erasure.stored import Subject
from meshwright_common.errors import PermissionDenied, Unavailable
from meshwright_common.ids import new_id
from meshwright_common.settings import RedisSettings
from meshwright_common.storage.redis import open_redis
from meshwright_common.testing.waiting import eventually
from meshwright_model_router.adapters.redis_answers import FAMILY
from meshwright_model_router.domain.call import CacheUse
from meshwright_model_router.domain.conversation import (
    Image,
    Message,
    Options,
    Role,
    ToolDefinition,
)
from meshwright_model_router.domain.guards.guard_set import GuardSet
from meshwright_model_router.domain.output import (
    CacheStatus,
    Finished,
    FinishReason,
    Piece,
    Started,
    TokenUsage,
    ToolCallPiece,
)

if TYPE_CHECKING:
    from tests.caching.conftest import Cache

HIT, MISS, BYPASS = CacheStatus.HIT, CacheStatus.MISS, CacheStatus.BYPASS


@pytest.mark.asyncio
async def test_same_call_is_told_again_and_costs_nothing(cache: Cache) -> None:
    first = await cache.ask()
    second = await cache.ask()
    assert (cache.status_of(first), cache.status_of(second)) == (MISS, HIT)
    assert cache.model.calls == 1
    assert cache.text_of(second) == cache.text_of(first) == "1: It is so."
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
    prompt = cache.call("Why?").prompt
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
    assert cache.text_of(await cache.ask()) == "2: It is so."


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
    assert cache.status_of(outputs) is BYPASS
    assert cache.text_of(outputs) == "3: It is so."


@pytest.mark.asyncio
async def test_calls_at_once_make_one_generation(cache: Cache) -> None:
    cache.model.gate = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(cache.ask()) for _ in range(50)]
        await eventually(lambda: cache.model.calls == 1)
        cache.model.gate.set()
    assert cache.model.calls == 1
    assert {cache.text_of(one.result()) for one in asked} == {"1: It is so."}
    statuses = [cache.status_of(one.result()) for one in asked]
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
    assert cache.text_of(await third) == "2: It is so."


@pytest.mark.asyncio
async def test_tool_calls_are_told_again(cache: Cache) -> None:
    cache.model.reason = FinishReason.TOOL_CALLS
    parts = (ToolCallPiece(0, "id", "look", '{"q":'), ToolCallPiece(0, arguments="1}"))
    cache.model.pieces = (Piece("x"), *(Piece(tool_calls=(part,)) for part in parts))
    await cache.ask()
    told = await cache.ask()
    assert cache.status_of(told) is HIT
    pieces = [part for one in told if isinstance(one, Piece) for part in one.tool_calls]
    assert tuple(pieces) == parts


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
