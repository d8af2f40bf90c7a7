"""Messages found by their words, over content that is sealed."""

from typing import Final

import pytest

from meshwright.session.v1 import session_history_pb2 as history
from meshwright.session.v1 import session_service_pb2 as pb
from meshwright.types.v1 import message_pb2, page_pb2
from meshwright_common.errors import InvalidArgument
from meshwright_common.ids import new_id
from meshwright_common.testing.mesh import calling_as
from services.session.tests.world import Member, World, answered, said, texts

pytestmark = pytest.mark.asyncio


async def append(
    world: World, member: Member, session_id: str, *messages: message_pb2.Message
) -> None:
    with calling_as(member.principal):
        await world.sessions.AppendMessages(
            pb.AppendMessagesRequest(session_id=session_id, messages=messages)
        )


async def found(world: World, member: Member, query: str, session_id: str = "") -> list[str]:
    with calling_as(member.principal):
        answer = await world.sessions.SearchMessages(
            history.SearchMessagesRequest(query=query, session_id=session_id)
        )
    return texts(answer.messages)


FOUND: Final = {
    "password": ["Resetting passwords is easy", "I forgot my password"],
    "PASSWORD forgot": ["I forgot my password"],
    "my password forgot": ["I forgot my password"],
    "忘记": ["我忘记密码了"],
    "密码 忘记": ["我忘记密码了"],
    "password 密码": [],
    "cafe": ["Das Café"],
    "... !?": [],
    "nothing of that": [],
}


async def test_messages_with_all_words_of_the_query_are_found_newest_first(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    for text in ("I forgot my password", "我忘记密码了", "Das Café"):
        await append(world, owner, session_id, said(text))
    await append(world, owner, session_id, answered("Resetting passwords is easy"))
    assert {query: await found(world, owner, query) for query in FOUND} == FOUND


async def test_only_ones_own_sessions_are_looked_through(world: World) -> None:
    owner, stranger = await world.tenant(), await world.tenant()
    member = await world.member(owner)
    for one in (owner, member, stranger):
        await append(world, one, await world.session(one), said(f"a secret of {one.user_id}"))
    for one in (owner, member, stranger):
        assert await found(world, one, "secret") == [f"a secret of {one.user_id}"]


async def test_equal_words_of_two_users_look_different_in_the_store(world: World) -> None:
    """Whoever reads the table cannot tell who talks about the same, nor what about."""
    owner = await world.tenant()
    member = await world.member(owner)
    for one in (owner, member):
        await append(world, one, await world.session(one), said("umbrella"))
    async with world.as_superuser() as connection:
        rows = await connection.fetch("SELECT words, content FROM messages")
    assert [len(row["words"]) for row in rows] == [1, 1]
    assert rows[0]["words"] != rows[1]["words"]
    assert not any(b"umbrella" in row["content"] for row in rows)


async def test_a_search_can_be_limited_to_a_session(world: World) -> None:
    owner = await world.tenant()
    one, other = await world.session(owner), await world.session(owner)
    await append(world, owner, one, said("word in one"))
    await append(world, owner, other, said("word in other"))
    assert await found(world, owner, "word", one) == ["word in one"]
    assert await found(world, owner, "word", new_id()) == []


async def test_messages_of_a_deleted_session_are_not_found(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    await append(world, owner, session_id, said("ephemeral"))
    with calling_as(owner.principal):
        await world.sessions.DeleteSession(pb.DeleteSessionRequest(session_id=session_id))
    assert await found(world, owner, "ephemeral") == []
    async with world.as_superuser() as connection:
        assert await connection.fetchval("SELECT count(*) FROM messages") == 0


async def test_what_tools_answered_is_not_looked_for(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    tool = message_pb2.Message(
        role=message_pb2.ROLE_TOOL, tool_call_id="c", parts=said("haystack").parts
    )
    await append(world, owner, session_id, tool)
    assert await found(world, owner, "haystack") == []


async def test_a_long_message_is_found_by_the_words_of_its_beginning(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    await append(world, owner, session_id, said("beginning " + "filler " * 10_000 + "ending"))
    assert len(await found(world, owner, "beginning filler")) == 1
    assert await found(world, owner, "ending") == []


async def test_pages_of_what_was_found_add_up(world: World) -> None:
    owner = await world.tenant()
    sessions = [await world.session(owner) for _ in range(3)]
    for number in range(12):
        await append(world, owner, sessions[number % 3], said(f"page {number}"), said("no"))
    listed: list[str] = []
    token = ""
    with calling_as(owner.principal):
        while True:
            page = await world.sessions.SearchMessages(
                history.SearchMessagesRequest(
                    query="page", page=page_pb2.PageRequest(page_size=5, page_token=token)
                )
            )
            listed += texts(page.messages)
            token = page.page.next_page_token
            if not token:
                break
        first = await world.sessions.SearchMessages(
            history.SearchMessagesRequest(query="page", page=page_pb2.PageRequest(page_size=5))
        )
        with pytest.raises(InvalidArgument):
            await world.sessions.SearchMessages(
                history.SearchMessagesRequest(
                    query="no",
                    page=page_pb2.PageRequest(page_token=first.page.next_page_token),
                )
            )
    assert listed == [f"page {number}" for number in reversed(range(12))]


async def test_a_query_of_a_wrong_shape_is_refused(world: World) -> None:
    owner = await world.tenant()
    for query in ("", "x" * 401, "a\0b"):
        with calling_as(owner.principal), pytest.raises(InvalidArgument) as caught:
            await world.sessions.SearchMessages(history.SearchMessagesRequest(query=query))
        assert [violation.field for violation in caught.value.field_violations] == ["query"]


async def test_an_untitled_session_is_named_by_what_its_user_says_first(world: World) -> None:
    """Once: whoever clears the title wants none. In the store it is sealed."""
    owner = await world.tenant()
    with calling_as(owner.principal):
        made = (await world.sessions.CreateSession(pb.CreateSessionRequest())).session
    await append(world, owner, made.session_id, said("How do\nI " + "really " * 20 + "begin?"))
    with calling_as(owner.principal):
        named = (
            await world.sessions.GetSession(pb.GetSessionRequest(session_id=made.session_id))
        ).session
        assert named.title == ("How do I " + "really " * 20)[:79] + "…"
        named.title = ""
        change = pb.UpdateSessionRequest(session=named)
        change.update_mask.paths.append("title")
        await world.sessions.UpdateSession(change)
    await append(world, owner, made.session_id, said("another thing"))
    with calling_as(owner.principal):
        request = pb.GetSessionRequest(session_id=made.session_id)
        assert (await world.sessions.GetSession(request)).session.title == ""
        titled = (await world.sessions.ListSessions(pb.ListSessionsRequest())).sessions
    assert [session.title for session in titled] == [""]


async def test_titles_are_sealed_in_the_store(world: World) -> None:
    owner = await world.tenant()
    await world.session(owner)
    async with world.as_superuser() as connection:
        stored = await connection.fetchval("SELECT title FROM sessions")
    assert b"a session" not in stored
