"""Messages over the stub: gapless, in order, each stored once."""

import asyncio

import pytest

from meshwright.session.v1 import session_service_pb2 as pb
from meshwright.types.v1 import message_pb2, page_pb2
from meshwright_common.errors import AlreadyExists, InvalidArgument
from meshwright_common.ids import new_id
from meshwright_common.testing.mesh import calling_as
from services.session.tests.world import World, all_messages, said, texts

pytestmark = pytest.mark.asyncio


async def test_appended_message_comes_back_exactly(world: World) -> None:
    """Text with any character, images, tool calls: stored as they came."""
    owner = await world.tenant()
    session_id, turn_id = await world.session(owner), new_id()
    image = message_pb2.ImagePart(data=b"\x00\xff", media_type="image/png")
    user = message_pb2.Message(
        role=message_pb2.ROLE_USER,
        name="ann",
        parts=[
            message_pb2.ContentPart(text="a\0b \U0001f600 中文"),
            message_pb2.ContentPart(image=image),
        ],
    )
    call = message_pb2.ToolCall(id="c1", name="calculator", arguments_json="{not json")
    asks = message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, tool_calls=[call])
    tool = message_pb2.Message(
        role=message_pb2.ROLE_TOOL,
        tool_call_id="c1",
        parts=[message_pb2.ContentPart(text="4")],
    )
    with calling_as(owner.principal):
        stored = await world.sessions.AppendMessages(
            pb.AppendMessagesRequest(
                session_id=session_id, messages=[user, asks, tool], turn_id=turn_id
            )
        )
    listed = await all_messages(world, owner, session_id)
    assert list(stored.messages) == listed
    assert [message.message for message in listed] == [user, asks, tool]
    assert [message.sequence for message in listed] == [1, 2, 3]
    assert {message.turn_id for message in listed} == {turn_id}


async def test_fifty_appends_at_once_number_messages_without_a_gap(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)

    async def append(number: int) -> None:
        with calling_as(owner.principal, timeout_seconds=20):
            await world.sessions.AppendMessages(
                pb.AppendMessagesRequest(
                    session_id=session_id, messages=[said(f"{number}a"), said(f"{number}b")]
                )
            )

    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(append(number))
    listed = await all_messages(world, owner, session_id)
    assert [message.sequence for message in listed] == list(range(1, 101))
    # The two of one call stand together.
    said_texts = texts(listed)
    assert all(
        said_texts[i][:-1] == said_texts[i + 1][:-1] and said_texts[i].endswith("a")
        for i in range(0, 100, 2)
    )
    times = [message.create_time.ToNanoseconds() for message in listed]
    assert times == sorted(times)


async def test_repeated_append_returns_the_stored_messages(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    request = pb.AppendMessagesRequest(
        session_id=session_id, messages=[said("one"), said("two")], request_id="r1"
    )
    with calling_as(owner.principal):
        first = await world.sessions.AppendMessages(request)
        await world.sessions.AppendMessages(
            pb.AppendMessagesRequest(session_id=session_id, messages=[said("three")])
        )
        second = await world.sessions.AppendMessages(request)
    assert first == second
    assert texts(await all_messages(world, owner, session_id)) == ["one", "two", "three"]


async def test_same_append_many_times_at_once_is_stored_once(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    request = pb.AppendMessagesRequest(
        session_id=session_id, messages=[said("once")], request_id="r1"
    )

    async def append() -> str:
        with calling_as(owner.principal, timeout_seconds=20):
            return (await world.sessions.AppendMessages(request)).messages[0].message_id

    ids = await asyncio.gather(*(append() for _ in range(20)))
    assert len(set(ids)) == 1
    assert texts(await all_messages(world, owner, session_id)) == ["once"]


async def test_request_id_for_other_messages_or_another_session_is_refused(world: World) -> None:
    owner = await world.tenant()
    session_id, other_id = await world.session(owner), await world.session(owner)
    request = pb.AppendMessagesRequest(
        session_id=session_id, messages=[said("one")], request_id="r1"
    )
    with calling_as(owner.principal):
        await world.sessions.AppendMessages(request)
        for other in (
            pb.AppendMessagesRequest(
                session_id=session_id, messages=[said("two")], request_id="r1"
            ),
            pb.AppendMessagesRequest(session_id=other_id, messages=[said("one")], request_id="r1"),
        ):
            with pytest.raises(AlreadyExists) as caught:
                await world.sessions.AppendMessages(other)
            assert caught.value.reason == "IDEMPOTENCY_KEY_REUSED"
    assert texts(await all_messages(world, owner, session_id)) == ["one"]
    assert texts(await all_messages(world, owner, other_id)) == []


@pytest.mark.parametrize("newest", [False, True])
async def test_pages_of_messages_add_up_in_either_order(world: World, newest: bool) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    with calling_as(owner.principal):
        for start in range(0, 25, 5):
            await world.sessions.AppendMessages(
                pb.AppendMessagesRequest(
                    session_id=session_id,
                    messages=[said(str(number)) for number in range(start, start + 5)],
                )
            )
    listed = texts(await all_messages(world, owner, session_id, page_size=7, newest=newest))
    expected = [str(number) for number in range(25)]
    assert listed == (expected[::-1] if newest else expected)


async def test_page_token_of_the_other_order_is_refused(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    with calling_as(owner.principal):
        await world.sessions.AppendMessages(
            pb.AppendMessagesRequest(session_id=session_id, messages=[said("1"), said("2")])
        )
        first = await world.sessions.ListMessages(
            pb.ListMessagesRequest(session_id=session_id, page=page_pb2.PageRequest(page_size=1))
        )
        with pytest.raises(InvalidArgument):
            await world.sessions.ListMessages(
                pb.ListMessagesRequest(
                    session_id=session_id,
                    page=page_pb2.PageRequest(page_token=first.page.next_page_token),
                    newest_first=True,
                )
            )


async def test_messages_of_earlier_months_are_listed_before_those_of_this_one(world: World) -> None:
    """Months lie in partitions of their own; a list goes through them all, in order."""
    owner = await world.tenant()
    session_id = await world.session(owner)
    with calling_as(owner.principal):
        await world.sessions.AppendMessages(
            pb.AppendMessagesRequest(session_id=session_id, messages=[said("old 1"), said("old 2")])
        )
    async with world.as_superuser() as connection:
        # As if they had been said before the first partition was made.
        await connection.execute(
            "UPDATE messages SET create_time = create_time - interval '3 months'"
        )
        await connection.execute(
            "UPDATE sessions SET create_time = create_time - interval '4 months'"
        )
        partitions = await connection.fetch("SELECT DISTINCT tableoid::regclass FROM messages")
    assert [str(row[0]) for row in partitions] == ["messages_earlier"]
    with calling_as(owner.principal):
        await world.sessions.AppendMessages(
            pb.AppendMessagesRequest(session_id=session_id, messages=[said("new")])
        )
    expected = ["old 1", "old 2", "new"]
    assert texts(await all_messages(world, owner, session_id, page_size=1)) == expected
    newest = await all_messages(world, owner, session_id, page_size=1, newest=True)
    assert texts(newest) == expected[::-1]


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        pytest.param([], "messages", id="none"),
        pytest.param([said("x")] * 101, "messages", id="too many"),
        pytest.param([message_pb2.Message()], "messages[0].role", id="no role"),
        pytest.param(
            [message_pb2.Message(role=message_pb2.ROLE_USER)], "messages[0].parts", id="no parts"
        ),
        pytest.param(
            [message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.ContentPart()])],
            "messages[0].parts[0]",
            id="empty part",
        ),
        pytest.param(
            [said("x"), message_pb2.Message(role=message_pb2.ROLE_TOOL, parts=said("x").parts)],
            "messages[1].tool_call_id",
            id="tool without call",
        ),
        pytest.param([said("x" * 600_000), said("é" * 300_000)], "messages", id="too much text"),
    ],
)
async def test_messages_of_a_wrong_shape_are_refused(
    world: World, messages: list[message_pb2.Message], field: str
) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    with calling_as(owner.principal), pytest.raises(InvalidArgument) as caught:
        await world.sessions.AppendMessages(
            pb.AppendMessagesRequest(session_id=session_id, messages=messages)
        )
    assert [violation.field for violation in caught.value.field_violations] == [field]
