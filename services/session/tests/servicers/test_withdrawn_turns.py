"""Turns taken out of their session over the stub: for readers, contexts and summaries alike."""

import pytest

from meshwright.session.v1 import session_history_pb2
from meshwright.session.v1 import session_service_pb2 as pb
from meshwright_common.errors import FailedPrecondition, NotFound
from meshwright_common.ids import new_id
from meshwright_common.testing.mesh import calling_as
from services.session.tests.memory_index import WordsIndex
from services.session.tests.mind import MODEL, a_mind, fact
from services.session.tests.servicers.test_begun_turns import begin, commit, sequences, turn
from services.session.tests.servicers.test_summaries import batch, store
from services.session.tests.world import Member, World, all_messages, said, texts

pytestmark = pytest.mark.asyncio


async def withdraw(
    world: World, owner: Member, session_id: str, turn_id: str, *, forget: bool = True
) -> int:
    with calling_as(owner.principal, timeout_seconds=20):
        answer = await world.sessions.WithdrawTurn(
            session_history_pb2.WithdrawTurnRequest(
                session_id=session_id, turn_id=turn_id, forget=forget
            )
        )
    return answer.removed_messages


async def test_nothing_of_a_withdrawn_turn_is_read_any_more(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    await turn(world, owner, session_id, 1)
    gone = new_id()
    await begin(world, owner, session_id, gone, "forget this")
    await commit(world, owner, session_id, gone, "forgotten", "forget this")
    assert 2 == await withdraw(world, owner, session_id, gone)
    assert 0 == await withdraw(world, owner, session_id, gone)
    begun = await begin(world, owner, session_id, new_id(), "and now?")
    assert ["question 1", "answer 1", "and now?"] == texts(begun.messages)
    stored = await all_messages(world, owner, session_id)
    assert [1, 2, 3] == sequences(stored)
    with calling_as(owner.principal):
        found = await world.sessions.SearchMessages(
            session_history_pb2.SearchMessagesRequest(query="forget")
        )
    assert [] == list(found.messages)


async def test_a_withdrawn_turn_stores_nothing_late(world: World) -> None:
    """Whoever still works for it, and whether or not it had begun."""
    owner = await world.tenant()
    session_id = await world.session(owner)
    gone = new_id()
    assert 0 == await withdraw(world, owner, session_id, gone)
    with pytest.raises(FailedPrecondition):
        await begin(world, owner, session_id, gone, "late?")
    with pytest.raises(FailedPrecondition):
        await commit(world, owner, session_id, gone, "late", "late?")
    assert [] == await all_messages(world, owner, session_id)


async def test_messages_behind_a_withdrawn_turn_move_up(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    first, second = new_id(), new_id()
    await begin(world, owner, session_id, first, "one?")
    with calling_as(owner.principal):
        await world.sessions.AppendMessages(
            pb.AppendMessagesRequest(
                session_id=session_id, messages=[said(f"note {number}") for number in range(3)]
            )
        )
    await commit(world, owner, session_id, first, "one")
    await begin(world, owner, session_id, second, "two?")
    assert 2 == await withdraw(world, owner, session_id, first)
    stored = await all_messages(world, owner, session_id)
    assert ["note 0", "note 1", "note 2", "two?"] == texts(stored)
    assert [1, 2, 3, 4] == sequences(stored)
    again = await begin(world, owner, session_id, second, "two?")
    assert ["note 0", "note 1", "note 2", "two?"] == texts(again.messages)


async def test_only_its_user_withdraws_a_turn(world: World) -> None:
    owner, stranger = await world.tenant(), await world.tenant()
    session_id = await world.session(owner)
    turn_id = new_id()
    await begin(world, owner, session_id, turn_id, "mine")
    with pytest.raises(NotFound):
        await withdraw(world, stranger, session_id, turn_id)
    assert 1 == len(await all_messages(world, owner, session_id))


async def test_what_was_learned_of_a_withdrawn_turn_is_forgotten(world: World) -> None:
    """Its summary, what that learned, and nothing of before or of the user's own."""
    mind = a_mind(world, WordsIndex())
    owner = await world.tenant()
    session_id = await world.session(owner)
    (old,) = await mind.remember(owner, fact("Lives in Berlin.", "user.city"))
    await turn(world, owner, session_id, 1)
    gone = new_id()
    await begin(world, owner, session_id, gone, "I moved to Paris")
    await commit(world, owner, session_id, gone, "noted")
    due = await batch(mind, owner, session_id)
    learned = fact("Lives in Paris.", "user.city", MODEL, confidence=0.9)
    await store(mind, owner, session_id, due.batch_id, learned)
    assert 2 == await withdraw(world, owner, session_id, gone)
    assert [old.text] == [one.text for one in await mind.listed(owner)]
    assert not (await batch(mind, owner, session_id)).batch_id
    for number in (2, 3):
        await turn(world, owner, session_id, number)
    following = await batch(mind, owner, session_id)
    assert ["question 2", "answer 2", "question 3", "answer 3"] == texts(following.messages)


async def test_answering_again_keeps_what_was_learned(world: World) -> None:
    mind = a_mind(world, WordsIndex())
    owner = await world.tenant()
    session_id = await world.session(owner)
    await turn(world, owner, session_id, 1)
    again = new_id()
    await begin(world, owner, session_id, again, "I moved to Paris")
    await commit(world, owner, session_id, again, "noted")
    due = await batch(mind, owner, session_id)
    await store(mind, owner, session_id, due.batch_id, fact("Lives in Paris.", origin=MODEL))
    await withdraw(world, owner, session_id, again, forget=False)
    assert "Lives in Paris." in [one.text for one in await mind.listed(owner)]
