"""The index of memories follows the rows, whoever dies and whatever is away."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from meshwright.session.v1 import memory_service_pb2 as pb
from meshwright.session.v1 import session_service_pb2
from meshwright_common.errors import ResourceExhausted, ServiceError, Unavailable
from meshwright_common.ids import new_id
from meshwright_common.testing.mesh import calling_as
from services.session.tests.memory_index import WordsIndex
from services.session.tests.mind import (
    SUMMARY,
    Mind,
    a_mind,
    fact,
    settled,
)
from services.session.tests.world import World

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def mind(world: World) -> Mind:
    return a_mind(world, WordsIndex())


@pytest.mark.parametrize("error", [Unavailable("away"), ResourceExhausted("quota")], ids=str)
async def test_without_the_index_the_newest_that_share_words_are_recalled(
    mind: Mind, error: ServiceError
) -> None:
    """The answer says what was missing; what was stored meanwhile is caught up with."""
    owner = await mind.world.tenant()
    await mind.remember(owner, fact("Likes green tea."))
    mind.index.error = error
    await mind.remember(owner, fact("住在柏林。"), fact("Works at a bakery."))
    recalled = await mind.recall(owner, "where does the bakery worker get tea?")
    assert {one.memory.text for one in recalled.memories} == {
        "Likes green tea.",
        "Works at a bakery.",
    }
    assert list(recalled.degraded) == ["vector"]
    assert await mind.texts(owner, "谁住在柏林?") == ["住在柏林。"]
    mind.index.error = None
    await mind.lose_leases(owner)
    async with mind.worker():
        await settled(mind, owner)
    assert len(mind.index.of(owner.user_id)) == 3
    assert not (await mind.recall(owner, "tea")).degraded


async def test_memory_whose_writer_died_before_the_index_is_recalled_and_indexed_later(
    mind: Mind,
) -> None:
    """A crash between the two stores: its words find it at once, the worker indexes it."""
    owner = await mind.world.tenant()
    mind.index.gate = asyncio.Event()
    writer = asyncio.create_task(mind.remember(owner, fact("Lives in Berlin.")))
    await mind.index.arrived.wait()
    writer.cancel()
    await asyncio.wait([writer])
    mind.index.gate = None
    assert not mind.index.of(owner.user_id)
    assert await mind.texts(owner, "who lives in Berlin") == ["Lives in Berlin."]
    await mind.lose_leases(owner)
    async with mind.worker():
        await settled(mind, owner)
    assert len(mind.index.of(owner.user_id)) == 1


async def test_forgotten_memory_is_not_recalled_and_the_index_follows(mind: Mind) -> None:
    owner = await mind.world.tenant()
    session_id = await mind.world.session(owner)
    await mind.remember(owner, fact("one tea"), fact("two tea"), session_id=session_id)
    three, four = await mind.remember(owner, fact("three tea"), fact("four tea"))
    ids = pb.MemoryIds(values=[three.memory_id, new_id()])
    assert await mind.forget(owner, memory_ids=ids) == 1
    assert "three tea" not in await mind.texts(owner, "tea")
    assert await mind.forget(owner, session_id=session_id) == 2
    assert await mind.texts(owner, "tea") == ["four tea"]
    async with mind.worker():
        await settled(mind, owner)
    assert mind.index.of(owner.user_id) == {four.memory_id}
    assert await mind.forget(owner, all=True) == 1
    assert await mind.recall(owner, "tea") == pb.RecallResponse()


async def test_memory_forgotten_while_it_is_being_indexed_leaves_no_entry(mind: Mind) -> None:
    """The writer comes last and loses: the index is looked at again after it."""
    owner = await mind.world.tenant()
    mind.index.gate = asyncio.Event()
    writer = asyncio.create_task(mind.remember(owner, fact("Lives in Berlin.")))
    await mind.index.arrived.wait()
    async with mind.worker():
        assert await mind.forget(owner, all=True) == 1
        mind.index.gate.set()
        await writer
        mind.index.gate = None
        await settled(mind, owner)
    assert not mind.index.of(owner.user_id)


async def test_user_without_memories_costs_no_search(mind: Mind) -> None:
    owner = await mind.world.tenant()
    assert await mind.recall(owner, "anything") == pb.RecallResponse()
    assert mind.index.searches == 0


async def test_deleted_session_takes_its_summaries_and_leaves_what_was_learned(mind: Mind) -> None:
    owner = await mind.world.tenant()
    session_id = await mind.world.session(owner)
    await mind.remember(
        owner, fact("They talked about tea.", kind=SUMMARY), fact("Likes tea."),
        session_id=session_id,
    )  # fmt: skip
    with calling_as(owner.principal):
        await mind.world.sessions.DeleteSession(
            session_service_pb2.DeleteSessionRequest(session_id=session_id)
        )
    assert await mind.texts(owner, "tea") == ["Likes tea."]
    async with mind.worker():
        await settled(mind, owner)
    assert len(mind.index.of(owner.user_id)) == 1


async def test_memory_that_the_index_lost_is_found_by_its_words(mind: Mind) -> None:
    """As after another embedding model was chosen: the index answers, and does not know it."""
    owner = await mind.world.tenant()
    await mind.remember(owner, fact("Lives in Berlin."), fact("Likes tea."))
    mind.index.entries.clear()
    recalled = await mind.recall(owner, "who lives in Berlin")
    assert [one.memory.text for one in recalled.memories] == ["Lives in Berlin."]
    assert not recalled.degraded
