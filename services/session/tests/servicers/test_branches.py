"""Sessions that go on from a message of another one."""

import pytest
from google.protobuf.struct_pb2 import Struct

from meshwright.session.v1 import session_history_pb2 as history
from meshwright.session.v1 import session_pb2
from meshwright.session.v1 import session_service_pb2 as pb
from meshwright_common.errors import AlreadyExists, InvalidArgument, NotFound
from meshwright_common.ids import new_id
from meshwright_common.testing.mesh import calling_as
from services.session.tests.world import Member, World, all_messages, answered, said, texts

pytestmark = pytest.mark.asyncio


async def talk(world: World, member: Member, count: int) -> session_pb2.Session:
    """Make a session with messages "1", "2" …, and with a context; return it."""
    metadata = Struct()
    metadata["colour"] = "blue"
    with calling_as(member.principal, timeout_seconds=20):
        made = await world.sessions.CreateSession(
            pb.CreateSessionRequest(
                session=session_pb2.Session(title="a talk", agent="rag", metadata=metadata)
            )
        )
        session_id = made.session.session_id
        for start in range(0, count, 100):
            await world.sessions.AppendMessages(
                pb.AppendMessagesRequest(
                    session_id=session_id,
                    messages=[
                        said(str(number + 1)) for number in range(start, min(start + 100, count))
                    ],
                )
            )
        data = Struct()
        data["topic"] = "rivers"
        await world.sessions.CompareAndSetContext(
            pb.CompareAndSetContextRequest(session_id=session_id, data=data)
        )
        got = await world.sessions.GetSession(pb.GetSessionRequest(session_id=session_id))
    return got.session


async def branch(
    world: World, member: Member, session_id: str, sequence: int, request_id: str = ""
) -> session_pb2.Session:
    with calling_as(member.principal, timeout_seconds=20):
        made = await world.sessions.BranchSession(
            history.BranchSessionRequest(
                session_id=session_id, sequence=sequence, request_id=request_id
            )
        )
    return made.session


async def test_a_branch_begins_with_copies_of_messages_context_and_settings(world: World) -> None:
    owner = await world.tenant()
    parent = await talk(world, owner, 250)
    child = await branch(world, owner, parent.session_id, 230)
    assert child.parent_session_id == parent.session_id
    assert (child.branch_sequence, child.message_count, child.context_version) == (230, 230, 1)
    assert (child.title, child.agent, child.metadata) == ("a talk", "rag", parent.metadata)
    copies = await all_messages(world, owner, child.session_id)
    originals = await all_messages(world, owner, parent.session_id)
    assert [message.sequence for message in copies] == list(range(1, 231))
    assert [copy.message for copy in copies] == [one.message for one in originals[:230]]
    assert not {one.message_id for one in copies} & {one.message_id for one in originals}
    assert {message.session_id for message in copies} == {child.session_id}
    with calling_as(owner.principal):
        context = await world.sessions.GetContext(pb.GetContextRequest(session_id=child.session_id))
    assert (context.context.version, dict(context.context.data)) == (1, {"topic": "rivers"})


async def test_what_is_said_in_a_branch_or_in_its_parent_stays_there(world: World) -> None:
    owner = await world.tenant()
    parent = await talk(world, owner, 3)
    child = await branch(world, owner, parent.session_id, 2)
    for session_id, text in ((child.session_id, "in the branch"), (parent.session_id, "behind")):
        with calling_as(owner.principal):
            await world.sessions.AppendMessages(
                pb.AppendMessagesRequest(session_id=session_id, messages=[answered(text)])
            )
    in_child = texts(await all_messages(world, owner, child.session_id))
    assert in_child == ["1", "2", "in the branch"]
    in_parent = texts(await all_messages(world, owner, parent.session_id))
    assert in_parent == ["1", "2", "3", "behind"]


async def test_a_branch_outlives_its_parent_and_is_found_by_its_words(world: World) -> None:
    owner = await world.tenant()
    parent = await talk(world, owner, 2)
    child = await branch(world, owner, parent.session_id, 1)
    with calling_as(owner.principal):
        await world.sessions.DeleteSession(pb.DeleteSessionRequest(session_id=parent.session_id))
        found = await world.sessions.SearchMessages(history.SearchMessagesRequest(query="1"))
    assert [message.session_id for message in found.messages] == [child.session_id]


async def test_a_branch_before_the_first_message_has_the_settings_alone(world: World) -> None:
    owner = await world.tenant()
    child = await branch(world, owner, (await talk(world, owner, 1)).session_id, 0)
    assert (child.message_count, child.title) == (0, "a talk")
    assert await all_messages(world, owner, child.session_id) == []


async def test_a_repeated_branch_returns_the_session_made_before(world: World) -> None:
    owner = await world.tenant()
    parent = await talk(world, owner, 2)
    first = await branch(world, owner, parent.session_id, 2, "r1")
    assert await branch(world, owner, parent.session_id, 2, "r1") == first
    with pytest.raises(AlreadyExists) as caught:
        await branch(world, owner, parent.session_id, 1, "r1")
    assert caught.value.reason == "IDEMPOTENCY_KEY_REUSED"


async def test_a_message_that_is_not_there_is_no_place_to_branch_from(world: World) -> None:
    owner = await world.tenant()
    parent = await talk(world, owner, 2)
    for sequence in (-1, 3):
        with pytest.raises(InvalidArgument) as caught:
            await branch(world, owner, parent.session_id, sequence)
        assert [violation.field for violation in caught.value.field_violations] == ["sequence"]


async def test_a_branch_of_too_many_messages_is_refused_with_the_limit(world: World) -> None:
    owner = await world.tenant()
    parent = await talk(world, owner, 1)
    async with world.as_superuser() as connection:
        await connection.execute(
            """
            INSERT INTO messages (tenant_id, session_id, create_time, sequence, message_id, role,
                                  content)
            SELECT tenant_id, session_id, create_time, n, gen_random_uuid(), role, content
              FROM messages, generate_series(2, 5001) AS n
            """
        )
        await connection.execute("UPDATE sessions SET message_count = 5001")
    with pytest.raises(InvalidArgument) as caught:
        await branch(world, owner, parent.session_id, 5001)
    assert "5000" in caught.value.field_violations[0].description


async def test_a_session_of_somebody_else_cannot_be_branched(world: World) -> None:
    owner = await world.tenant()
    member = await world.member(owner)
    parent = await talk(world, owner, 1)
    for session_id in (parent.session_id, new_id()):
        with pytest.raises(NotFound) as caught:
            await branch(world, member, session_id, 1)
        assert caught.value.reason == "SESSION_NOT_FOUND"
