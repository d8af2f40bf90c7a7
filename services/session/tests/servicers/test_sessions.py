"""Sessions over the stub: whose they are, how they change, how they are listed."""

import pytest
from google.protobuf.message import Message

from meshwright.session.v1 import session_pb2
from meshwright.session.v1 import session_service_pb2 as pb
from meshwright.types.v1 import page_pb2
from meshwright_common.errors import (
    Aborted,
    AlreadyExists,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServiceError,
)
from meshwright_common.ids import new_id
from meshwright_common.testing.mesh import calling_as
from services.session.tests.world import MESH, World, answered, said

pytestmark = pytest.mark.asyncio


async def test_created_session_reads_back_with_what_was_said_about_it(world: World) -> None:
    owner = await world.tenant()
    base = new_id()
    wanted = session_pb2.Session(title="Ein Titel", agent="chat", knowledge_base_ids=[base])
    wanted.metadata.update({"colour": "red", "nested": {"n": 3, "list": [1.5, None, True]}})
    with calling_as(owner.principal):
        made = await world.sessions.CreateSession(pb.CreateSessionRequest(session=wanted))
        read = await world.sessions.GetSession(
            pb.GetSessionRequest(session_id=made.session.session_id)
        )
    assert made.session == read.session
    assert read.session.title == "Ein Titel"
    assert read.session.agent == "chat"
    assert list(read.session.knowledge_base_ids) == [base]
    assert read.session.metadata == wanted.metadata
    assert read.session.user_id == owner.user_id
    assert (read.session.message_count, read.session.context_version) == (0, 0)


async def test_repeated_create_returns_the_first_session(world: World) -> None:
    owner = await world.tenant()
    request = pb.CreateSessionRequest(session=session_pb2.Session(title="a"), request_id="r1")
    with calling_as(owner.principal):
        first = await world.sessions.CreateSession(request)
        second = await world.sessions.CreateSession(request)
        listed = await world.sessions.ListSessions(pb.ListSessionsRequest())
    assert first.session == second.session
    assert len(listed.sessions) == 1


async def test_request_id_with_another_body_is_refused(world: World) -> None:
    owner = await world.tenant()
    with calling_as(owner.principal):
        await world.sessions.CreateSession(
            pb.CreateSessionRequest(session=session_pb2.Session(title="a"), request_id="r1")
        )
        with pytest.raises(AlreadyExists) as caught:
            await world.sessions.CreateSession(
                pb.CreateSessionRequest(session=session_pb2.Session(title="b"), request_id="r1")
            )
    assert caught.value.reason == "IDEMPOTENCY_KEY_REUSED"


async def test_request_ids_of_two_users_do_not_meet(world: World) -> None:
    owner = await world.tenant()
    other = await world.member(owner)
    request = pb.CreateSessionRequest(request_id="r1")
    with calling_as(owner.principal):
        first = await world.sessions.CreateSession(request)
    with calling_as(other.principal):
        second = await world.sessions.CreateSession(request)
    assert first.session.session_id != second.session.session_id


async def test_ids_of_others_answer_as_absent_ones_and_change_nothing(world: World) -> None:
    """R-21, S-01, S-02: of another user, of another tenant, of nobody: one answer."""
    owner, stranger = await world.tenant(), await world.tenant()
    colleague = await world.member(owner)
    session_id = await world.session(owner)
    for caller in (stranger, colleague):
        for foreign, absent in zip(
            requests_about(session_id), requests_about(new_id()), strict=True
        ):
            seen = []
            for request in (foreign, absent):
                method = getattr(world.sessions, type(request).__name__.removesuffix("Request"))
                with calling_as(caller.principal), pytest.raises(ServiceError) as caught:
                    await method(request)
                error = caught.value
                seen.append((error.code, error.reason, error.message, error.metadata))
            assert seen[0] == seen[1]
            assert seen[0][1] == "SESSION_NOT_FOUND"
        with calling_as(caller.principal):
            await world.sessions.DeleteSession(pb.DeleteSessionRequest(session_id=session_id))
    with calling_as(owner.principal):
        read = await world.sessions.GetSession(pb.GetSessionRequest(session_id=session_id))
    assert (read.session.title, read.session.message_count) == ("a session", 0)


async def test_update_changes_only_what_the_mask_names(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    request = pb.UpdateSessionRequest(
        session=session_pb2.Session(session_id=session_id, title="new", agent="chat")
    )
    request.update_mask.paths.append("agent")
    with calling_as(owner.principal):
        updated = (await world.sessions.UpdateSession(request)).session
    assert (updated.title, updated.agent) == ("a session", "chat")


async def test_update_with_an_old_etag_is_a_conflict(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    with calling_as(owner.principal):
        etag = (
            await world.sessions.GetSession(pb.GetSessionRequest(session_id=session_id))
        ).session.etag
        request = pb.UpdateSessionRequest(
            session=session_pb2.Session(session_id=session_id, title="one", etag=etag)
        )
        request.update_mask.paths.append("title")
        changed = await world.sessions.UpdateSession(request)
        with pytest.raises(Aborted) as caught:
            await world.sessions.UpdateSession(request)
    assert caught.value.reason == "CONFLICT"
    assert changed.session.etag != etag


async def test_messages_leave_the_etag_alone(world: World) -> None:
    owner = await world.tenant()
    session_id = await world.session(owner)
    with calling_as(owner.principal):
        before = await world.sessions.GetSession(pb.GetSessionRequest(session_id=session_id))
        await world.sessions.AppendMessages(
            pb.AppendMessagesRequest(session_id=session_id, messages=[said("hello")])
        )
        after = await world.sessions.GetSession(pb.GetSessionRequest(session_id=session_id))
    assert before.session.etag == after.session.etag
    assert after.session.message_count == 1


async def test_sessions_are_listed_last_used_first_in_pages(world: World) -> None:
    owner = await world.tenant()
    ids = [await world.session(owner) for _ in range(5)]
    with calling_as(owner.principal):
        await world.sessions.AppendMessages(
            pb.AppendMessagesRequest(session_id=ids[0], messages=[said("hello")])
        )
        listed, token = [], ""
        for _ in range(3):
            page = await world.sessions.ListSessions(
                pb.ListSessionsRequest(page=page_pb2.PageRequest(page_size=2, page_token=token))
            )
            listed += [session.session_id for session in page.sessions]
            token = page.page.next_page_token
    assert listed == [ids[0], *reversed(ids[1:])]
    assert token == ""


async def test_page_token_of_another_caller_is_refused(world: World) -> None:
    owner = await world.tenant()
    other = await world.member(owner)
    for _ in range(2):
        await world.session(owner)
    with calling_as(owner.principal):
        page = await world.sessions.ListSessions(
            pb.ListSessionsRequest(page=page_pb2.PageRequest(page_size=1))
        )
    stolen = page_pb2.PageRequest(page_size=1, page_token=page.page.next_page_token)
    with calling_as(other.principal), pytest.raises(InvalidArgument) as caught:
        await world.sessions.ListSessions(pb.ListSessionsRequest(page=stolen))
    assert [violation.field for violation in caught.value.field_violations] == ["page.page_token"]


@pytest.mark.parametrize("size", [-1, 201])
async def test_page_size_out_of_range_is_refused(world: World, size: int) -> None:
    owner = await world.tenant()
    with calling_as(owner.principal), pytest.raises(InvalidArgument) as caught:
        await world.sessions.ListSessions(
            pb.ListSessionsRequest(page=page_pb2.PageRequest(page_size=size))
        )
    assert [violation.field for violation in caught.value.field_violations] == ["page.page_size"]


async def test_deleted_session_is_gone_with_its_messages_and_stays_gone(world: World) -> None:
    owner = await world.tenant()
    with calling_as(owner.principal):
        create = pb.CreateSessionRequest(request_id="r1")
        session_id = (await world.sessions.CreateSession(create)).session.session_id
        await world.sessions.AppendMessages(
            pb.AppendMessagesRequest(session_id=session_id, messages=[said("hello")])
        )
        delete = pb.DeleteSessionRequest(session_id=session_id)
        await world.sessions.DeleteSession(delete)
        await world.sessions.DeleteSession(delete)
        for call in (
            world.sessions.GetSession(pb.GetSessionRequest(session_id=session_id)),
            world.sessions.ListMessages(pb.ListMessagesRequest(session_id=session_id)),
            # A late repetition of the request that made it does not bring it back.
            world.sessions.CreateSession(create),
        ):
            with pytest.raises(NotFound) as caught:
                await call
            assert caught.value.reason == "SESSION_NOT_FOUND"
    async with world.as_superuser() as connection:
        assert await connection.fetchval("SELECT count(*) FROM messages") == 0


@pytest.mark.parametrize(
    ("session", "field"),
    [
        (session_pb2.Session(session_id=new_id()), "session.session_id"),
        (session_pb2.Session(user_id=new_id()), "session.user_id"),
        (session_pb2.Session(message_count=3), "session.message_count"),
        (session_pb2.Session(archived=True), "session.archived"),
        (session_pb2.Session(title="x" * 201), "session.title"),
        pytest.param(session_pb2.Session(title="a\0b"), "session.title", id="title-with-nul"),
        (session_pb2.Session(agent="not a name"), "session.agent"),
        (session_pb2.Session(knowledge_base_ids=["x"]), "session.knowledge_base_ids[0]"),
    ],
)
async def test_session_with_a_wrong_field_is_refused(
    world: World, session: session_pb2.Session, field: str
) -> None:
    """S-28: what the service sets cannot be set by a caller."""
    owner = await world.tenant()
    with calling_as(owner.principal), pytest.raises(InvalidArgument) as caught:
        await world.sessions.CreateSession(pb.CreateSessionRequest(session=session))
    assert [violation.field for violation in caught.value.field_violations] == [field]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(float("nan"), id="not a number"),
        pytest.param(float("inf"), id="infinite"),
        pytest.param("a\0b", id="nul"),
        pytest.param("x" * 16 * 1024, id="too long"),
    ],
)
async def test_metadata_that_cannot_be_kept_is_refused(world: World, value: float | str) -> None:
    owner = await world.tenant()
    session = session_pb2.Session()
    session.metadata.update({"key": value})
    with calling_as(owner.principal), pytest.raises(InvalidArgument) as caught:
        await world.sessions.CreateSession(pb.CreateSessionRequest(session=session))
    assert [violation.field for violation in caught.value.field_violations] == ["session.metadata"]


async def test_service_without_a_user_owns_no_sessions(world: World) -> None:
    await world.tenant()
    caller = MESH.permissions | {"session:write", "session:read"}
    service = type(MESH)(MESH.tenant_id, "chat", "service", frozenset(caller))
    with calling_as(service), pytest.raises(PermissionDenied):
        await world.sessions.CreateSession(pb.CreateSessionRequest())


async def test_user_that_the_directory_does_not_know_cannot_own_a_session(world: World) -> None:
    with calling_as(new_id(), "session:write"), pytest.raises(NotFound) as caught:
        await world.sessions.CreateSession(pb.CreateSessionRequest())
    assert caught.value.reason == "USER_NOT_FOUND"


def requests_about(session_id: str) -> list[Message]:
    """Return a request of every method that has to find the session."""
    update = pb.UpdateSessionRequest(session=session_pb2.Session(session_id=session_id, title="x"))
    update.update_mask.paths.append("title")
    turn = pb.CommitTurnRequest(session_id=session_id, turn_id=new_id(), messages=[answered("x")])
    return [
        pb.GetSessionRequest(session_id=session_id),
        update,
        pb.AppendMessagesRequest(session_id=session_id, messages=[said("x")]),
        turn,
        pb.ListMessagesRequest(session_id=session_id),
        pb.GetContextRequest(session_id=session_id),
        pb.CompareAndSetContextRequest(session_id=session_id),
    ]
