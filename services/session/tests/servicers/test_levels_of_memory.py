"""Three levels of memory under one service: each in front of the next, none of them ever stale."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import cast

import pytest
from prometheus_client import REGISTRY

from meshwright.session.v1 import session_pb2
from meshwright.session.v1 import session_service_pb2 as pb
from meshwright_common.errors import FailedPrecondition, NotFound
from meshwright_common.ids import new_id
from meshwright_common.settings import RedisSettings
from meshwright_common.storage.redis import open_redis, tenant_key
from meshwright_common.telemetry import metric_names
from meshwright_common.testing.mesh import calling_as
from meshwright_session.adapters.context_exports import ContextExports
from meshwright_session.adapters.redis_checkpoint import TURNS_BETWEEN
from meshwright_session.context_parts import ContextParts, context_parts
from meshwright_session.domain.context_schema import SCHEMA, ContextSchema
from meshwright_session.domain.errors import ContextSchemaUnknown
from meshwright_session.domain.models import ContextChanges, MessageDraft, Owner
from meshwright_session.domain.windows import SessionKey
from meshwright_session.settings import SessionSection
from meshwright_session.wire import values
from services.session.tests.world import Member, World, all_messages, answered, said

pytestmark = pytest.mark.asyncio


@pytest.fixture
def loads() -> Loads:
    return Loads()


class Loads:
    """How windows were loaded since the last look: {"l1 nothing": 3, …}."""

    def __init__(self) -> None:
        self._before = self._all()

    def since(self) -> dict[str, int]:
        before, self._before = self._before, self._all()
        grown = {name: count - before.get(name, 0) for name, count in self._before.items()}
        return {name: count for name, count in grown.items() if count}

    def _all(self) -> dict[str, int]:
        return {
            f"{sample.labels['level']} {sample.labels['read']}": int(sample.value)
            for metric in REGISTRY.collect()
            if metric.name == metric_names.SESSION_WINDOW_LOADS
            for sample in metric.samples
            if sample.name.endswith("_total")
        }


class Talk:
    """A session, talked in through one process or another."""

    def __init__(self, member: Member, session_id: str) -> None:
        self.owner = Owner(member.tenant_id, member.user_id)
        self.session_id = session_id
        self.key = SessionKey(member.tenant_id, session_id)
        self.said: list[bytes] = []

    async def turn(self, process: ContextParts, **changes: object) -> None:
        """Make a turn, and check that its agent reads all that was said before."""
        turn_id = new_id()
        number = len(self.said)
        question, answer = (_draft(f"{part} {number}") for part in ("question", "answer"))
        opening = await process.turns.begin(self.owner, self.session_id, turn_id, question, 200)
        self.said.append(question.content)
        assert self.said == [message.content for message in opening.messages]
        await process.turns.commit(
            self.owner, self.session_id, turn_id, [answer], ContextChanges(changes), question
        )
        self.said.append(answer.content)
        await process.checkpoints.written()


def _draft(text: str) -> MessageDraft:
    message = session_pb2.StoredMessage(message=said(text))
    return MessageDraft("user", message.SerializeToString(), text)


def process(
    world: World, schema: ContextSchema = SCHEMA, section: SessionSection | None = None
) -> ContextParts:
    """Another process of the service on the same stores: nothing of it is shared in memory."""
    return context_parts(
        world.database,
        world.keys,
        world.redis,
        ContextExports(world.database, world.objects),
        world.context.archive,
        section or SessionSection(),
        schema=schema,
    )


@contextlib.asynccontextmanager
async def talk(world: World) -> AsyncIterator[Talk]:
    member = await world.tenant()
    talking = Talk(member, await world.session(member))
    yield talking
    stored = await all_messages(world, member, talking.session_id)
    assert list(range(1, len(talking.said) + 1)) == [message.sequence for message in stored]


async def test_turns_in_one_process_read_nothing_after_the_first(
    world: World, loads: Loads
) -> None:
    one = process(world)
    async with talk(world) as talking:
        for number in range(20):
            await talking.turn(one, **({"n": number} if number % 3 == 0 else {}))
        assert {"cold all": 1, "l1 nothing": 19} == loads.since()
        context = await one.contexts.get(talking.owner, talking.session_id)
        assert ({"n": 18}, 20) == (context.data, context.version)
        assert {"l1 nothing": 1} == loads.since()


async def test_turn_in_a_new_process_goes_on_from_redis(world: World, loads: Loads) -> None:
    """S6. Also in the middle of the turns that lie beside the checkpoint."""
    one = process(world)
    async with talk(world) as talking:
        for number in range(TURNS_BETWEEN + 3):
            await talking.turn(one, n=number)
            loads.since()
            new = process(world)
            opening = await new.turns.begin(
                talking.owner, talking.session_id, new_id(), _draft("x"), 200
            )
            talking.said.append(_draft("x").content)
            assert {"l2 nothing": 1} == loads.since()
            assert {"n": number} == opening.context.data
            assert talking.said == [message.content for message in opening.messages]


async def test_turns_through_two_processes_see_each_other_and_fetch_only_what_is_new(
    world: World, loads: Loads
) -> None:
    one, other = process(world), process(world)
    async with talk(world) as talking:
        for number in range(24):
            writer = one if number % 2 == 0 else other
            await talking.turn(writer, n=number)
            reader = other if number % 2 == 0 else one
            context = await reader.contexts.get(talking.owner, talking.session_id)
            assert {"n": number} == context.data
    assert 1 == loads.since()["cold all"]


async def test_emptied_redis_costs_one_cold_start(
    world: World, loads: Loads, redis_settings: RedisSettings
) -> None:
    """S6. From PostgreSQL once; the next process finds it in Redis again."""
    async with talk(world) as talking, open_redis(redis_settings) as redis:
        one = process(world)
        for _ in range(4):
            await talking.turn(one)
        await redis.flushall()
        loads.since()
        await talking.turn(process(world))
        assert {"cold all": 1} == loads.since()
        await talking.turn(process(world))
        assert {"l2 nothing": 1} == loads.since()
        await redis.flushall()
        # The process that wrote the checkpoint does not know that it is gone.
        await talking.turn(one)
        loads.since()
        await talking.turn(process(world))
        assert {"l2 nothing": 1} == loads.since()


async def test_without_redis_everything_is_served(world: World, loads: Loads) -> None:
    async with talk(world) as talking, open_redis(RedisSettings(url=_NOBODY)) as nobody:
        parts = context_parts(
            world.database,
            world.keys,
            nobody,
            ContextExports(world.database, world.objects),
            world.context.archive,
            SessionSection(),
        )
        for _ in range(5):
            await talking.turn(parts)
        assert {"cold all": 1, "l1 nothing": 4} == loads.since()


_NOBODY = "redis://127.0.0.1:1/0"


async def test_context_whose_time_in_redis_is_over_is_read_anew(world: World, loads: Loads) -> None:
    async with talk(world) as talking:
        await talking.turn(process(world), a=1)
        key = tenant_key(talking.key.tenant_id, "session", talking.session_id, "context")
        assert 1 == await world.redis.delete(key)
        loads.since()
        new = process(world)
        await talking.turn(new)
        assert {"l2 newer": 1} == loads.since()
        context = await new.contexts.get(talking.owner, talking.session_id)
        assert {"a": 1} == context.data


async def test_nothing_readable_lies_in_redis(world: World) -> None:
    async with talk(world) as talking:
        await talking.turn(process(world), secret="canary")
        await talking.turn(process(world))
        keys = await world.redis.keys("*session*")
        assert len(keys) >= 2
        for key in keys:
            kind = await world.redis.type(key)
            found = (
                await world.redis.lrange(key, 0, -1)
                if kind == b"list"
                else [await world.redis.get(key)]
            )
            for value in cast("list[bytes]", found):
                assert b"canary" not in value
                assert b"question" not in value


async def test_foreign_bytes_in_redis_are_a_miss(world: World, loads: Loads) -> None:
    async with talk(world) as talking:
        for part in ("window", "turns", "context"):
            key = tenant_key(talking.key.tenant_id, "session", talking.session_id, part)
            if part == "turns":
                await world.redis.rpush(key, b"x")
            else:
                await world.redis.set(key, b"\x01garbage" * 10)
        await talking.turn(process(world))
        assert {"cold all": 1} == loads.since()


async def test_redis_that_refuses_commands_is_done_without(world: World, loads: Loads) -> None:
    async with talk(world) as talking:
        for part in ("window", "turns", "context"):
            key = tenant_key(talking.key.tenant_id, "session", talking.session_id, part)
            await world.redis.hset(key, "of another", "kind")
        parts = process(world)
        for _ in range(3):
            await talking.turn(parts)
        assert {"cold all": 1, "l1 nothing": 2} == loads.since()


async def test_write_outside_a_turn_is_seen_by_the_next(world: World, loads: Loads) -> None:
    """Messages that clients append, contexts that they set: through any process."""
    member = await world.tenant()
    talking = Talk(member, await world.session(member))
    one = process(world)
    for number in range(3):
        await talking.turn(one)
        with calling_as(member.principal):
            await world.sessions.AppendMessages(
                pb.AppendMessagesRequest(session_id=talking.session_id, messages=[answered("a")])
            )
            context = await world.sessions.GetContext(
                pb.GetContextRequest(session_id=talking.session_id)
            )
            await world.sessions.CompareAndSetContext(
                pb.CompareAndSetContextRequest(
                    session_id=talking.session_id,
                    expected_version=context.context.version,
                    data=values.struct({"n": number}),
                )
            )
        talking.said.append(session_pb2.StoredMessage(message=answered("a")).SerializeToString())
        found = await one.contexts.get(talking.owner, talking.session_id)
        assert {"n": number} == found.data
    assert {"cold all": 1, "l1 newer": 3, "l1 nothing": 2} == loads.since()


async def test_older_schema_is_upgraded_when_read_and_kept_until_replaced(world: World) -> None:
    second = ContextSchema(2, {1: lambda data: {"wrapped": dict(data)}})
    async with talk(world) as talking:
        old, new = process(world), process(world, second)
        await talking.turn(old, a=1)
        upgraded = await new.contexts.get(talking.owner, talking.session_id)
        assert {"wrapped": {"a": 1}} == upgraded.data
        # Reading alone changed nothing: a deployment that is rolled back now reads on.
        fresh = process(world)
        assert {"a": 1} == (await fresh.contexts.get(talking.owner, talking.session_id)).data
        await talking.turn(new, b=2)
        async with world.as_superuser() as connection:
            schemas = await connection.fetch(
                "SELECT version, schema_version FROM contexts ORDER BY version"
            )
        assert [(1, 1), (2, 2)] == [tuple(row) for row in schemas]


async def test_rolled_back_deployment_refuses_newer_contexts_and_destroys_none(
    world: World,
) -> None:
    second = ContextSchema(2, {1: dict})
    member = await world.tenant()
    talking = Talk(member, await world.session(member))
    await talking.turn(process(world, second), a=1)
    old = process(world)
    owner, session_id = talking.owner, talking.session_id
    for refused in (
        old.contexts.get(owner, session_id),
        old.contexts.compare_and_set(owner, session_id, 1, {"b": 2}),
        old.contexts.restore(owner, session_id, 0, None),
        old.turns.begin(owner, session_id, new_id(), _draft("x"), 40),
        old.turns.commit(
            owner, session_id, new_id(), [_draft("x")], ContextChanges({"b": 2}), None
        ),
    ):
        with pytest.raises(ContextSchemaUnknown) as caught:
            await refused
        assert {"schema": "2", "known": "1"} == caught.value.metadata
        assert isinstance(caught.value, FailedPrecondition)
    found = await process(world, second).contexts.get(owner, session_id)
    assert ({"a": 1}, 1) == (found.data, found.version)


async def test_deleted_session_is_gone_from_every_level(world: World) -> None:
    member = await world.tenant()
    talking = Talk(member, await world.session(member))
    await talking.turn(world.context, a=1)
    assert world.context.windows.here(talking.key) is not None
    with calling_as(member.principal):
        await world.sessions.DeleteSession(pb.DeleteSessionRequest(session_id=talking.session_id))
    assert world.context.windows.here(talking.key) is None
    assert await world.redis.keys(f"*{talking.session_id}*") == []


async def test_what_this_process_has_in_memory_is_not_there_for_others(world: World) -> None:
    """Neither for another tenant nor for another user of the tenant."""
    owner = await world.tenant()
    talking = Talk(owner, await world.session(owner))
    await talking.turn(world.context, a=1)
    for stranger in (await world.member(owner), await world.tenant()):
        with calling_as(stranger.principal):
            for call in (
                world.sessions.GetContext(pb.GetContextRequest(session_id=talking.session_id)),
                world.sessions.ListMessages(
                    pb.ListMessagesRequest(session_id=talking.session_id, newest_first=True)
                ),
            ):
                with pytest.raises(NotFound) as caught:
                    await call
                assert caught.value.reason == "SESSION_NOT_FOUND"
    assert world.context.windows.here(talking.key) is not None
