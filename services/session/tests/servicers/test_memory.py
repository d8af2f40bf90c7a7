"""Memories over the stub: stored once, recalled while they hold, forgotten at once."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp

from meshwright.session.v1 import memory_service_pb2 as pb
from meshwright.types.v1 import page_pb2
from meshwright_common.errors import AlreadyExists, InvalidArgument, NotFound
from meshwright_common.ids import new_id
from meshwright_common.storage.tenancy import unit_of_work, unscoped
from meshwright_common.testing.mesh import calling_as
from meshwright_session.wire import values
from services.session.tests.memory_index import WordsIndex
from services.session.tests.mind import (
    MODEL,
    PREFERENCE,
    SUMMARY,
    UNTRUSTED,
    Mind,
    a_mind,
    fact,
)
from services.session.tests.world import World

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def mind(world: World) -> Mind:
    return a_mind(world, WordsIndex())


async def test_memory_is_recalled_when_remember_returns_and_comes_back_as_stored(
    mind: Mind,
) -> None:
    owner = await mind.world.tenant()
    session_id, turn_id = await mind.world.session(owner), new_id()
    with calling_as(owner.principal):
        (stored,) = (
            await mind.stub.Remember(
                pb.RememberRequest(
                    memories=[
                        fact(
                            "Lives in Berlin.",
                            "user.city",
                            confidence=0.7,
                            metadata=values.struct({"from": "chat"}),
                        )
                    ],
                    session_id=session_id,
                    turn_id=turn_id,
                    batch_id="b",
                )
            )
        ).memories
    (found,) = (await mind.recall(owner, "where is Berlin")).memories
    assert found.memory == stored
    assert 0 < found.score <= 1
    assert (stored.session_id, stored.turn_id) == (session_id, turn_id)
    assert (stored.user_id, stored.topic, stored.confidence) == (owner.user_id, "user.city", 0.7)
    assert stored.metadata == values.struct({"from": "chat"})
    assert mind.index.of(owner.user_id) == {stored.memory_id}
    assert await mind.waiting(owner) == 0


async def test_what_is_stored_can_be_read_by_nobody_without_the_key(mind: Mind) -> None:
    """Content at rest is sealed: text, topic and metadata."""
    owner = await mind.world.tenant()
    await mind.remember(
        owner, fact("Has a canary.", "user.canary", metadata=values.struct({"k": "canary"}))
    )
    async with mind.world.as_superuser() as connection:
        rows = await connection.fetch("SELECT m::text AS row, content FROM memories m")
    assert len(rows) == 1
    assert "anary" not in rows[0]["row"]
    assert b"anary" not in rows[0]["content"]


async def test_known_batch_writes_nothing_and_answers_what_it_stored(mind: Mind) -> None:
    owner = await mind.world.tenant()
    first = await mind.remember(owner, fact("one"), fact("two"), batch="b")
    again = await mind.remember(owner, fact("one"), fact("two"), batch="b")
    assert again == first
    with pytest.raises(AlreadyExists) as caught:
        await mind.remember(owner, fact("other"), batch="b")
    assert caught.value.reason == "IDEMPOTENCY_KEY_REUSED"
    # Somebody else's batch of the same name is another one.
    colleague = await mind.world.member(owner)
    assert len(await mind.remember(colleague, fact("one"), batch="b")) == 1
    assert await mind.texts(colleague, "one two other") == ["one"]


async def test_batches_of_one_name_at_once_store_once(mind: Mind) -> None:
    owner = await mind.world.tenant()
    stored = await asyncio.gather(
        *(mind.remember(owner, fact(f"tea {n}"), batch="b") for n in [1] * 8)
    )
    assert len({one[0].memory_id for one in stored}) == 1
    assert len(await mind.listed(owner)) == 1


async def test_same_text_renews_and_the_same_topic_supersedes(mind: Mind) -> None:
    """Of one topic one memory holds; what it took the place of is shown when asked for."""
    owner = await mind.world.tenant()
    (berlin,) = await mind.remember(owner, fact("Lives in Berlin.", "user.city"))
    (again,) = await mind.remember(owner, fact("lives in  BERLIN", "user.city"))
    assert again.memory_id == berlin.memory_id
    assert again.update_time.ToNanoseconds() > berlin.update_time.ToNanoseconds()
    (paris,) = await mind.remember(owner, fact("Lives in Paris.", "user.city", MODEL))
    assert await mind.texts(owner, "lives in Berlin or Paris") == ["Lives in Paris."]
    assert mind.index.of(owner.user_id) == {paris.memory_id}
    both = await mind.listed(owner, include_superseded=True)
    assert [(one.memory_id, one.superseded_by) for one in both] == [
        (paris.memory_id, ""),
        (berlin.memory_id, paris.memory_id),
    ]
    assert [one.memory_id for one in await mind.listed(owner)] == [paris.memory_id]


async def test_racing_memories_of_one_topic_leave_one_that_holds(mind: Mind) -> None:
    owner = await mind.world.tenant()
    await asyncio.gather(
        *(mind.remember(owner, fact(f"Lives in city {n}.", "user.city")) for n in range(10))
    )
    assert len(await mind.listed(owner)) == 1
    assert len(await mind.listed(owner, include_superseded=True)) == 10


async def test_untrusted_memory_never_takes_the_place_of_what_the_user_said(mind: Mind) -> None:
    owner = await mind.world.tenant()
    (said,) = await mind.remember(owner, fact("Pays to account one.", "billing.account"))
    await mind.remember(owner, fact("Pays to account two.", "billing.account", UNTRUSTED))
    await mind.remember(
        owner, fact("Pays to three.", origin=UNTRUSTED, supersedes=[said.memory_id])
    )
    await mind.remember(
        owner, fact("Maybe pays to four.", "billing.account", MODEL, confidence=0.3)
    )
    assert await mind.texts(owner, "pays to account one two three four") == ["Pays to account one."]
    assert len(await mind.listed(owner, include_superseded=True)) == 4


async def test_memories_of_others_are_as_absent_ones(mind: Mind) -> None:
    owner, stranger = await mind.world.tenant(), await mind.world.tenant()
    colleague = await mind.world.member(owner)
    (mine,) = await mind.remember(owner, fact("Lives in Berlin."))
    for other in (colleague, stranger):
        assert await mind.texts(other, "Berlin") == []
        assert await mind.listed(other, include_superseded=True) == []
        ids = pb.MemoryIds(values=[mine.memory_id])
        assert await mind.forget(other, memory_ids=ids) == 0
        await mind.remember(other, fact("x", supersedes=[mine.memory_id]))
    assert await mind.texts(owner, "Berlin") == ["Lives in Berlin."]
    session_id = await mind.world.session(owner)
    with pytest.raises(NotFound):
        await mind.remember(colleague, fact("x"), session_id=session_id)
    with pytest.raises(NotFound):
        await mind.recall(colleague, "x", session_id=session_id)


async def test_memory_expires(mind: Mind) -> None:
    owner = await mind.world.tenant()
    soon = Timestamp()
    soon.GetCurrentTime()
    soon.seconds += 3600
    (stored,) = await mind.remember(owner, fact("Is on holiday.", expire_time=soon))
    assert await mind.texts(owner, "holiday") == ["Is on holiday."]
    async with mind.world.as_superuser() as connection:
        await connection.execute("UPDATE memories SET expire_time = now() - interval '1 second'")
    assert await mind.texts(owner, "holiday") == []
    assert [one.memory_id for one in await mind.listed(owner, include_superseded=True)] == [
        stored.memory_id
    ]


async def test_recall_keeps_to_kinds_sessions_scores_and_number(mind: Mind) -> None:
    owner = await mind.world.tenant()
    session_id = await mind.world.session(owner)
    await mind.remember(owner, fact("tea in the morning", kind=PREFERENCE), fact("tea is hot"))
    await mind.remember(owner, fact("talked about tea", kind=SUMMARY), session_id=session_id)
    assert await mind.texts(owner, "tea", kinds=[PREFERENCE]) == ["tea in the morning"]
    assert await mind.texts(owner, "tea", session_id=session_id) == ["talked about tea"]
    assert len(await mind.texts(owner, "tea", top_k=2)) == 2
    assert await mind.texts(owner, "tea is hot", min_score=0.9) == ["tea is hot"]
    assert await mind.texts(owner, "coffee") == []


async def test_list_is_paged_newest_first(mind: Mind) -> None:
    owner = await mind.world.tenant()
    for number in range(5):
        await mind.remember(owner, fact(f"fact {number}"))
    seen: list[str] = []
    token = ""
    with calling_as(owner.principal):
        while True:
            page = await mind.stub.ListMemories(
                pb.ListMemoriesRequest(page=page_pb2.PageRequest(page_size=2, page_token=token))
            )
            seen += [one.text for one in page.memories]
            token = page.page.next_page_token
            if not token:
                break
    assert seen == [f"fact {number}" for number in range(4, -1, -1)]


async def test_user_keeps_so_many_memories_superseded_ones_go_first(mind: Mind) -> None:
    """S13: bounded from the first day."""
    owner = await mind.world.tenant()
    await mind.remember(owner, *(fact(f"city {n}", "user.city") for n in range(50)))
    kept = await mind.remember(owner, *(fact(f"fact {n}") for n in range(60)))
    everything = await mind.listed(
        owner, include_superseded=True, page=page_pb2.PageRequest(page_size=200)
    )
    assert len(everything) == 100
    assert {one.memory_id for one in kept} < {one.memory_id for one in everything}
    assert sum(1 for one in everything if one.superseded_by) == 39


MISSHAPEN = [
    (pb.NewMemory(text="x"), "memories[0].kind"),
    (fact(""), "memories[0].text"),
    (fact(" "), "memories[0].text"),
    (fact("x" * 4_001), "memories[0].text"),
    (fact("x", "User City"), "memories[0].topic"),
    (fact("x", "a", kind=SUMMARY), "memories[0].topic"),
    (fact("x", confidence=1.5), "memories[0].confidence"),
    (fact("x", expire_time=Timestamp(seconds=1)), "memories[0].expire_time"),
    (fact("x", supersedes=["it"]), "memories[0].supersedes"),
    (fact("x", metadata=values.struct({"k": "x" * 5_000})), "memories[0].metadata"),
]


async def test_misshapen_memory_is_refused_by_its_field(mind: Mind) -> None:
    owner = await mind.world.tenant()
    for memory, field in MISSHAPEN:
        with pytest.raises(InvalidArgument) as caught:
            await mind.remember(owner, memory)
        assert caught.value.message.startswith(field), memory
    assert await mind.listed(owner) == []


async def test_misshapen_questions_and_selections_are_refused(mind: Mind) -> None:
    owner = await mind.world.tenant()
    for query, more, field in (
        ("", {}, "query"),
        ("x", {"top_k": 51}, "top_k"),
        ("x", {"kinds": [0]}, "kinds[0]"),
        ("x", {"min_score": 2}, "min_score"),
    ):
        with pytest.raises(InvalidArgument, match=field.replace("[", r"\[")):
            await mind.recall(owner, query, **more)
    for selection in ({}, {"all": False}, {"memory_ids": pb.MemoryIds()}):
        with pytest.raises(InvalidArgument):
            await mind.forget(owner, **selection)


@pytest.mark.parametrize("table", ["memories", "memory_index_work"])
async def test_query_that_forgets_its_tenant_sees_its_own_rows_only(mind: Mind, table: str) -> None:
    """S-03, as for every other table of content."""
    owner, other = await mind.world.tenant(), await mind.world.tenant()
    for one in (owner, other):
        await mind.remember(one, fact("Likes tea."))
        await mind.forget(one, all=True)
        await mind.remember(one, fact("Likes coffee."))
    statement = f"SELECT tenant_id FROM {table}"  # noqa: S608 - a name of ours
    async with unit_of_work(mind.world.database, owner.tenant_id) as connection:
        assert {row["tenant_id"] for row in await connection.fetch(statement)} == {owner.tenant_id}
    async with unscoped(mind.world.database) as connection:
        assert await connection.fetch(statement) == []
