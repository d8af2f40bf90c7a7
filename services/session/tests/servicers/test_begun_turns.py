"""Turns over the stub: begun in one step, taken over, committed with or without their question."""

import asyncio
from collections.abc import Sequence

import pytest

from meshwright.session.v1 import session_pb2
from meshwright.session.v1 import session_service_pb2 as pb
from meshwright.types.v1 import message_pb2
from meshwright_common.errors import InvalidArgument, NotFound
from meshwright_common.ids import new_id
from meshwright_common.testing.mesh import calling_as
from meshwright_session.domain.windows import SessionKey
from meshwright_session.wire import values
from services.session.tests.world import Member, World, all_messages, answered, said, texts

pytestmark = pytest.mark.asyncio


async def begin(
    world: World, owner: Member, session_id: str, turn_id: str, text: str, *, most: int = 0
) -> pb.BeginTurnResponse:
    with calling_as(owner.principal, timeout_seconds=20):
        return await world.sessions.BeginTurn(
            pb.BeginTurnRequest(
                session_id=session_id, turn_id=turn_id, message=said(text), max_messages=most
            )
        )


async def commit(
    world: World, owner: Member, session_id: str, turn_id: str, text: str, question: str = ""
) -> pb.CommitTurnResponse:
    with calling_as(owner.principal, timeout_seconds=20):
        return await world.sessions.CommitTurn(
            pb.CommitTurnRequest(
                session_id=session_id,
                turn_id=turn_id,
                messages=[answered(text)],
                question=said(question) if question else None,
            )
        )


async def turn(world: World, owner: Member, session_id: str, number: int) -> None:
    turn_id = new_id()
    await begin(world, owner, session_id, turn_id, f"question {number}")
    await commit(world, owner, session_id, turn_id, f"answer {number}", f"question {number}")


def sequences(stored: Sequence[session_pb2.StoredMessage]) -> list[int]:
    return [message.sequence for message in stored]


async def test_begun_turn_reads_the_newest_messages_and_the_context(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    with calling_as(owner.principal):
        await world.sessions.CompareAndSetContext(
            pb.CompareAndSetContextRequest(session_id=session_id, data=values.struct({"a": 1}))
        )
    for number in range(3):
        await turn(world, owner, session_id, number)
    begun = await begin(world, owner, session_id, new_id(), "and now?", most=4)
    assert ["answer 1", "question 2", "answer 2", "and now?"] == texts(begun.messages)
    assert [4, 5, 6, 7] == sequences(begun.messages)
    assert (4, values.struct({"a": 1})) == (begun.context.version, begun.context.data)


async def test_turn_begun_again_reads_the_same_whatever_was_said_since(world: World) -> None:
    """Another process takes it over after its answer was stored and others came."""
    owner = await world.tenant()
    session_id = await world.session(owner)
    for number in range(3):
        await turn(world, owner, session_id, number)
    turn_id = new_id()
    first = await begin(world, owner, session_id, turn_id, "and now?", most=3)
    await commit(world, owner, session_id, turn_id, "now", "and now?")
    for number in range(120):
        if number % 40 == 0:
            # From this process's memory, and without it.
            world.context.cache.drop(SessionKey(owner.tenant_id, session_id))
        with calling_as(owner.principal):
            await world.sessions.AppendMessages(
                pb.AppendMessagesRequest(session_id=session_id, messages=[said("x"), said("y")])
            )
        if number % 40 == 39:
            again = await begin(world, owner, session_id, turn_id, "and now?", most=3)
            assert first.messages == again.messages
    assert 8 + 240 == len(await all_messages(world, owner, session_id))


async def test_turn_begun_at_once_by_many_is_stored_once(world: World) -> None:
    owner = await world.tenant()
    session_id, turn_id = await world.session(owner), new_id()
    begun = await asyncio.gather(
        *(begin(world, owner, session_id, turn_id, "why?") for _ in range(8))
    )
    [stored] = await all_messages(world, owner, session_id)
    assert all([stored] == list(one.messages) for one in begun)


async def test_question_that_a_crash_of_the_database_lost_is_stored_with_the_answer(
    world: World,
) -> None:
    """ADR 0016: the question is not waited for, and comes along when the turn is committed."""
    owner = await world.tenant()
    session_id, turn_id = await world.session(owner), new_id()
    await turn(world, owner, session_id, 0)
    await begin(world, owner, session_id, turn_id, "why?")
    async with world.as_superuser() as connection:
        # What a crash leaves: neither the row of the turn, nor the message, nor its count.
        await connection.execute("DELETE FROM turn_commits WHERE turn_id = $1", turn_id)
        await connection.execute("DELETE FROM messages WHERE turn_id = $1", turn_id)
        await connection.execute(
            "UPDATE sessions SET message_count = 2, update_time = context_time"
            " WHERE session_id = $1",
            session_id,
        )
    await commit(world, owner, session_id, turn_id, "because", "why?")
    again = await begin(world, owner, session_id, turn_id, "why?")
    stored = await all_messages(world, owner, session_id)
    assert ["question 0", "answer 0", "why?", "because"] == texts(stored)
    assert [1, 2, 3, 4] == sequences(stored)
    assert ["question 0", "answer 0", "why?"] == texts(again.messages)


async def test_message_that_took_the_place_of_a_lost_one_is_what_is_read(world: World) -> None:
    """The process that answered the lost question still has it in memory."""
    owner = await world.tenant()
    session_id, lost = await world.session(owner), new_id()
    await turn(world, owner, session_id, 0)
    await begin(world, owner, session_id, lost, "lost?")
    async with world.as_superuser() as connection:
        await connection.execute("DELETE FROM turn_commits WHERE turn_id = $1", lost)
        await connection.execute("DELETE FROM messages WHERE turn_id = $1", lost)
        await connection.execute(
            "UPDATE sessions SET message_count = 2, update_time = context_time"
            " WHERE session_id = $1",
            session_id,
        )
    with calling_as(owner.principal):
        await world.sessions.AppendMessages(
            pb.AppendMessagesRequest(session_id=session_id, messages=[said("instead")])
        )
    begun = await begin(world, owner, session_id, new_id(), "and now?")
    assert ["question 0", "answer 0", "instead", "and now?"] == texts(begun.messages)


async def test_question_is_stored_once_when_nothing_was_lost(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    await turn(world, owner, session_id, 0)
    again = new_id()
    await commit(world, owner, session_id, again, "answer 1", "question 1")
    await commit(world, owner, session_id, again, "answer 1", "question 1")
    stored = await all_messages(world, owner, session_id)
    assert ["question 0", "answer 0", "question 1", "answer 1"] == texts(stored)


async def test_question_does_not_wait_for_the_disk_and_the_answer_does(world: World) -> None:
    """ADR 0016. Told by a trigger that runs as each transaction commits."""
    owner = await world.tenant()
    session_id, turn_id = await world.session(owner), new_id()
    async with world.as_superuser() as connection:
        await connection.execute(_WATCH_COMMITS)
    await begin(world, owner, session_id, turn_id, "why?")
    await commit(world, owner, session_id, turn_id, "because", "why?")
    async with world.as_superuser() as connection:
        seen = await connection.fetch("SELECT sequence, waits FROM seen_commits ORDER BY sequence")
    assert [(1, "off"), (2, "on")] == [(row["sequence"], row["waits"]) for row in seen]


_WATCH_COMMITS = """
CREATE TABLE seen_commits (sequence bigint, waits text);
CREATE FUNCTION see_commit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $function$
BEGIN
    INSERT INTO session.seen_commits
    VALUES (new.sequence, current_setting('synchronous_commit'));
    RETURN NULL;
END
$function$;
CREATE CONSTRAINT TRIGGER seen_commit AFTER INSERT ON messages
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION see_commit();
"""


async def test_summary_is_due_after_as_many_turns_as_set(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    due = []
    for number in range(11):
        turn_id = new_id()
        await begin(world, owner, session_id, turn_id, "q")
        committed = await commit(world, owner, session_id, turn_id, "a", "q")
        due.append(committed.summary_due)
        assert number + 1 == committed.context_version
    assert [False] * 9 + [True, True] == due


@pytest.mark.parametrize(
    ("message", "most", "field"),
    [
        (answered("x"), 0, "message.role"),
        (message_pb2.Message(role=message_pb2.ROLE_USER), 0, "message.parts"),
        (said("x"), 201, "max_messages"),
        (said("x"), -1, "max_messages"),
    ],
)
async def test_turn_that_cannot_begin_names_the_field(
    world: World, message: message_pb2.Message, most: int, field: str
) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    with calling_as(owner.principal), pytest.raises(InvalidArgument) as caught:
        await world.sessions.BeginTurn(
            pb.BeginTurnRequest(
                session_id=session_id, turn_id=new_id(), message=message, max_messages=most
            )
        )
    assert [field] == [violation.field for violation in caught.value.field_violations]


async def test_turn_of_somebody_elses_session_is_not_begun(world: World) -> None:
    owner = await world.tenant()
    member = await world.member(owner)
    stranger = await world.tenant()
    session_id = await world.session(owner)
    await turn(world, owner, session_id, 0)
    for other in (member, stranger):
        with pytest.raises(NotFound) as caught:
            await begin(world, other, session_id, new_id(), "mine?")
        assert "SESSION_NOT_FOUND" == caught.value.reason
    assert 2 == len(await all_messages(world, owner, session_id))
