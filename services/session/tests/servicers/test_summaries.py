"""Batches of turns: due when there are enough, summarised once, never lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import pytest_asyncio

from meshwright.session.v1 import memory_service_pb2 as pb
from meshwright.session.v1 import session_pb2
from meshwright.session.v1 import session_service_pb2 as session_pb
from meshwright.types.v1 import message_pb2
from meshwright_common.errors import InvalidArgument, NotFound
from meshwright_common.ids import new_id
from meshwright_common.testing.mesh import calling_as
from services.session.tests.memory_index import WordsIndex
from services.session.tests.mind import (
    MODEL,
    SMALL,
    SUMMARY,
    UNTRUSTED,
    USER,
    Mind,
    a_mind,
    fact,
)
from services.session.tests.world import Member, World, answered, said, texts

pytestmark = pytest.mark.asyncio

TURNS = SMALL.summary_turns


@pytest_asyncio.fixture
async def mind(world: World) -> Mind:
    return a_mind(world, WordsIndex())


async def turn(
    mind: Mind, owner: Member, session_id: str, text: str, *middle: message_pb2.Message, **more: Any
) -> session_pb.CommitTurnResponse:
    """Ask and answer."""
    turn_id = new_id()
    with calling_as(owner.principal):
        await mind.world.sessions.BeginTurn(
            session_pb.BeginTurnRequest(session_id=session_id, turn_id=turn_id, message=said(text))
        )
        return await mind.world.sessions.CommitTurn(
            session_pb.CommitTurnRequest(
                session_id=session_id,
                turn_id=turn_id,
                messages=[*middle, answered(f"answer to {text}")],
                **more,
            )
        )


async def batch(mind: Mind, owner: Member, session_id: str) -> pb.ReadSummaryBatchResponse:
    with calling_as(owner.principal):
        return await mind.stub.ReadSummaryBatch(pb.ReadSummaryBatchRequest(session_id=session_id))


async def store(
    mind: Mind, owner: Member, session_id: str, batch_id: str, *learned: pb.NewMemory
) -> list[pb.Memory]:
    with calling_as(owner.principal):
        answer = await mind.stub.StoreSummary(
            pb.StoreSummaryRequest(
                session_id=session_id,
                batch_id=batch_id,
                summary="They talked about tea.",
                learned=learned,
            )
        )
    return list(answer.memories)


async def session_of(mind: Mind, owner: Member, session_id: str) -> session_pb2.Session:
    with calling_as(owner.principal):
        got = await mind.world.sessions.GetSession(
            session_pb.GetSessionRequest(session_id=session_id)
        )
    return got.session


async def test_enough_turns_make_a_batch_that_stays_the_same_until_it_is_stored(mind: Mind) -> None:
    owner = await mind.world.tenant()
    session_id = await mind.world.session(owner)
    await mind.remember(owner, fact("Likes green tea."), fact("Has a dog."))
    await turn(mind, owner, session_id, "green tea?")
    assert await batch(mind, owner, session_id) == pb.ReadSummaryBatchResponse()
    await turn(mind, owner, session_id, "and water?")
    due = await batch(mind, owner, session_id)
    assert due.batch_id == f"{session_id}:1-4"
    assert texts(due.messages) == [
        "green tea?", "answer to green tea?", "and water?", "answer to and water?",
    ]  # fmt: skip
    assert [one.text for one in due.known] == ["Likes green tea."]
    await turn(mind, owner, session_id, "later")
    assert await batch(mind, owner, session_id) == due


async def test_stored_batch_is_a_summary_with_what_was_learned_and_the_next_one_follows_it(
    mind: Mind,
) -> None:
    """S4: what is fewer than a batch stays, and is continued; nothing is summarised twice."""
    owner = await mind.world.tenant()
    session_id = await mind.world.session(owner)
    for number in range(TURNS + 1):
        await turn(mind, owner, session_id, f"question {number}")
    (old,) = await mind.remember(owner, fact("Lives in Berlin.", "user.city"))
    due = await batch(mind, owner, session_id)
    learned = fact("Lives in Paris.", "user.city", MODEL, confidence=0.9)
    summary, city = await store(mind, owner, session_id, due.batch_id, learned)
    assert (summary.kind, summary.text, summary.session_id) == (
        SUMMARY, "They talked about tea.", session_id,
    )  # fmt: skip
    assert (summary.origin, city.origin, city.session_id) == (MODEL, MODEL, session_id)
    assert await mind.texts(owner, "lives in city Berlin Paris") == ["Lives in Paris."]
    superseded = await mind.listed(owner, include_superseded=True)
    assert [one.superseded_by for one in superseded if one.memory_id == old.memory_id] == [
        city.memory_id
    ]
    assert (await session_of(mind, owner, session_id)).summarised_sequence == 2 * TURNS
    assert not (await batch(mind, owner, session_id)).batch_id
    await turn(mind, owner, session_id, "one more")
    following = await batch(mind, owner, session_id)
    assert following.batch_id == f"{session_id}:{2 * TURNS + 1}-{2 * TURNS + 4}"
    assert texts(following.messages)[0] == f"question {TURNS}"


async def test_batch_that_was_stored_before_writes_nothing(mind: Mind) -> None:
    owner = await mind.world.tenant()
    session_id = await mind.world.session(owner)
    for number in range(TURNS):
        await turn(mind, owner, session_id, f"question {number}")
    due = await batch(mind, owner, session_id)
    first = await store(mind, owner, session_id, due.batch_id, fact("Likes tea."))
    assert len(first) == 2
    assert await store(mind, owner, session_id, due.batch_id, fact("Likes coffee.")) == []
    assert len(await mind.listed(owner)) == 2


async def test_of_two_summaries_of_one_batch_at_once_one_is_written(mind: Mind) -> None:
    owner = await mind.world.tenant()
    session_id = await mind.world.session(owner)
    for number in range(TURNS):
        await turn(mind, owner, session_id, f"question {number}")
    due = await batch(mind, owner, session_id)
    answers = await asyncio.gather(
        *(store(mind, owner, session_id, due.batch_id, fact(f"Fact {n}.")) for n in range(6))
    )
    assert sorted(len(one) for one in answers) == [0, 0, 0, 0, 0, 2]
    assert len(await mind.listed(owner)) == 2
    assert mind.index.puts == 1


async def test_summaries_and_turns_at_once_lose_no_turn(mind: Mind) -> None:
    """Whoever commits and whoever summarises take turns at the session's row."""
    owner = await mind.world.tenant()
    session_id = await mind.world.session(owner)
    covered: list[str] = []

    async def summarise() -> None:
        due = await batch(mind, owner, session_id)
        if due.batch_id and await store(mind, owner, session_id, due.batch_id):
            covered.extend(texts(due.messages))

    for round_number in range(4):
        await asyncio.gather(
            *(turn(mind, owner, session_id, f"{round_number} {n}") for n in range(3)),
            summarise(),
            summarise(),
        )
    while (await batch(mind, owner, session_id)).batch_id:
        await summarise()
    asked = [text for text in covered if not text.startswith("answer")]
    assert len(asked) == len(set(asked)) == 12


async def test_commit_says_when_turns_are_due(mind: Mind) -> None:
    owner = await mind.world.tenant()
    session_id = await mind.world.session(owner)
    due = [
        (await turn(mind, owner, session_id, f"question {number}")).summary_due
        for number in range(10)
    ]
    assert due == [False] * 9 + [True]


@pytest.mark.parametrize("source", ["tool", "document", "none"])
async def test_summary_of_what_documents_and_tools_said_is_not_trusted(
    mind: Mind, source: str
) -> None:
    owner = await mind.world.tenant()
    session_id = await mind.world.session(owner)
    asks = message_pb2.Message(
        role=message_pb2.ROLE_ASSISTANT,
        tool_calls=[message_pb2.ToolCall(id="c", name="t", arguments_json="{}")],
    )
    returns = said("It says: obey.", message_pb2.ROLE_TOOL)
    returns.tool_call_id = "c"
    middle = (asks, returns) if source == "tool" else ()
    cited = [message_pb2.Citation(number=1, document_id=new_id(), quote="so")]
    await turn(
        mind, owner, session_id, "what?", *middle, citations=cited if source == "document" else ()
    )
    await turn(mind, owner, session_id, "and?")
    due = await batch(mind, owner, session_id)
    (summary,) = await store(mind, owner, session_id, due.batch_id)
    assert summary.origin == (MODEL if source == "none" else UNTRUSTED)


async def test_batches_are_their_sessions_and_their_users(mind: Mind) -> None:
    owner = await mind.world.tenant()
    colleague = await mind.world.member(owner)
    session_id, other = await mind.world.session(owner), await mind.world.session(owner)
    for number in range(TURNS):
        await turn(mind, owner, session_id, f"question {number}")
    due = await batch(mind, owner, session_id)
    with pytest.raises(NotFound):
        await batch(mind, colleague, session_id)
    with pytest.raises(NotFound):
        await store(mind, colleague, session_id, due.batch_id)
    for wrong in ("", "x", due.batch_id.replace(session_id, other)):
        with pytest.raises(InvalidArgument, match="batch_id"):
            await store(mind, owner, session_id, wrong)
    with pytest.raises(InvalidArgument, match=r"learned\[0\].kind"):
        await store(mind, owner, session_id, due.batch_id, fact("x", origin=USER, kind=SUMMARY))
    assert await store(mind, owner, session_id, f"{session_id}:1-3") == []
    assert not await mind.listed(owner)
