"""Turns and contexts over the stub: committed once, compared and set."""

import asyncio

import pytest
from google.protobuf.struct_pb2 import Struct

from meshwright.session.v1 import session_service_pb2 as pb
from meshwright.types.v1 import message_pb2, usage_pb2
from meshwright_common.errors import Aborted, InvalidArgument, ServiceError
from meshwright_common.ids import new_id
from meshwright_common.testing.mesh import calling_as
from meshwright_session.wire import values
from services.session.tests.world import World, all_messages, answered, said

pytestmark = pytest.mark.asyncio


def struct(**members: object) -> Struct:
    return values.struct(members)


async def test_committed_turn_stores_answer_sources_usage_and_context(world: World) -> None:
    owner = await world.tenant()
    session_id, turn_id = await world.session(owner), new_id()
    citation = message_pb2.Citation(number=1, document_id=new_id(), quote="so", page=3)
    usage = usage_pb2.TokenUsage(prompt_tokens=10, completion_tokens=2)
    call = message_pb2.ToolCall(id="c", name="t", arguments_json="{}")
    asks = message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, tool_calls=[call])
    with calling_as(owner.principal):
        await world.sessions.AppendMessages(
            pb.AppendMessagesRequest(
                session_id=session_id, messages=[said("why?")], turn_id=turn_id, request_id=turn_id
            )
        )
        committed = await world.sessions.CommitTurn(
            pb.CommitTurnRequest(
                session_id=session_id,
                turn_id=turn_id,
                messages=[asks, answered("because")],
                citations=[citation],
                usage=usage,
                context_changes=struct(topic="reasons"),
            )
        )
        context = await world.sessions.GetContext(pb.GetContextRequest(session_id=session_id))
        session = await world.sessions.GetSession(pb.GetSessionRequest(session_id=session_id))
    question, asked, answer = await all_messages(world, owner, session_id)
    assert (committed.message_id, committed.context_version) == (answer.message_id, 1)
    assert [question.sequence, asked.sequence, answer.sequence] == [1, 2, 3]
    assert list(answer.citations) == [citation]
    assert answer.usage == usage
    assert not asked.citations
    assert not asked.HasField("usage")
    assert (context.context.version, context.context.data) == (1, struct(topic="reasons"))
    assert (session.session.message_count, session.session.context_version) == (3, 1)


async def test_turn_committed_twice_at_once_is_stored_once(world: World) -> None:
    """A restarted turn may come with another answer: the first one stands."""
    owner = await world.tenant()
    session_id, turn_id = await world.session(owner), new_id()

    async def commit(text: str) -> tuple[str, int]:
        with calling_as(owner.principal, timeout_seconds=20):
            committed = await world.sessions.CommitTurn(
                pb.CommitTurnRequest(
                    session_id=session_id, turn_id=turn_id, messages=[answered(text)]
                )
            )
            return committed.message_id, committed.context_version

    results = await asyncio.gather(*(commit(f"answer {number}") for number in range(10)))
    [stored] = await all_messages(world, owner, session_id)
    assert set(results) == {(stored.message_id, 1)}


async def test_context_changes_are_merged_and_null_removes(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    versions = []
    with calling_as(owner.principal):
        for changes in (
            struct(a=1, b={"c": [1, 2]}, gone="x"),
            struct(a=2, gone=None),
            None,
        ):
            committed = await world.sessions.CommitTurn(
                pb.CommitTurnRequest(
                    session_id=session_id,
                    turn_id=new_id(),
                    messages=[answered("x")],
                    context_changes=changes,
                )
            )
            versions.append(committed.context_version)
        context = await world.sessions.GetContext(pb.GetContextRequest(session_id=session_id))
    assert versions == [1, 2, 3]
    assert context.context.version == 3
    assert context.context.data == struct(a=2, b={"c": [1, 2]})


async def test_context_that_grows_over_its_limit_is_refused_and_nothing_is_stored(
    world: World,
) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    half = "x" * 140_000
    with calling_as(owner.principal):
        await world.sessions.CompareAndSetContext(
            pb.CompareAndSetContextRequest(session_id=session_id, data=struct(a=half))
        )
        with pytest.raises(InvalidArgument) as caught:
            await world.sessions.CommitTurn(
                pb.CommitTurnRequest(
                    session_id=session_id,
                    turn_id=new_id(),
                    messages=[answered("x")],
                    context_changes=struct(b=half),
                )
            )
        session = await world.sessions.GetSession(pb.GetSessionRequest(session_id=session_id))
    assert caught.value.metadata["limit_bytes"] == "262144"
    assert (session.session.message_count, session.session.context_version) == (0, 1)


async def test_of_two_writers_of_one_version_one_wins(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)

    async def write(number: int) -> int | ServiceError:
        with calling_as(owner.principal, timeout_seconds=20):
            try:
                written = await world.sessions.CompareAndSetContext(
                    pb.CompareAndSetContextRequest(session_id=session_id, data=struct(by=number))
                )
            except Aborted as error:
                return error
            return int(written.context.data.fields["by"].number_value)

    outcomes = await asyncio.gather(*(write(number) for number in range(8)))
    [winner] = [outcome for outcome in outcomes if isinstance(outcome, int)]
    losers = [outcome for outcome in outcomes if isinstance(outcome, ServiceError)]
    assert {(error.reason, error.metadata["current_version"]) for error in losers} == {
        ("CONTEXT_VERSION_CONFLICT", "1")
    }
    with calling_as(owner.principal):
        context = await world.sessions.GetContext(pb.GetContextRequest(session_id=session_id))
    assert (context.context.version, context.context.data) == (1, struct(by=winner))


async def test_context_before_the_first_write_is_empty(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    with calling_as(owner.principal):
        found = await world.sessions.GetContext(pb.GetContextRequest(session_id=session_id))
    assert (found.context.version, found.context.data) == (0, Struct())
    assert not found.context.HasField("update_time")


async def test_turn_has_to_end_with_an_answer(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    with calling_as(owner.principal), pytest.raises(InvalidArgument) as caught:
        await world.sessions.CommitTurn(
            pb.CommitTurnRequest(session_id=session_id, turn_id=new_id(), messages=[said("x")])
        )
    assert [violation.field for violation in caught.value.field_violations] == ["messages[0].role"]
