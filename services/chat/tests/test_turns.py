"""Whole turns over the local seam, on real PostgreSQL and Valkey."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from meshwright.chat.v1 import chat_service_pb2, turn_pb2
from meshwright.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from meshwright.orchestrator.v1.agent_service_pb2_grpc import add_AgentServiceServicer_to_server
from meshwright.session.v1.session_service_pb2_grpc import add_SessionServiceServicer_to_server
from meshwright_chat.app import build
from meshwright_chat.settings import ChatSection, Settings
from meshwright_common.app import App
from meshwright_common.context import CallContext, Principal, bind
from meshwright_common.errors import ServiceError
from meshwright_common.identity.keys import ephemeral_keys
from meshwright_common.identity.tokens import TokenMinter, TokenVerifier
from meshwright_common.ids import new_id
from meshwright_common.rpc.channels import Channels
from meshwright_common.rpc.interceptors import server_interceptors
from meshwright_common.rpc.local_server import LocalServer
from meshwright_common.rpc.stream import open_stream
from meshwright_common.settings import DatabaseSettings, QuotaSettings, RedisSettings
from meshwright_common.storage.redis import open_redis
from meshwright_common.testing.encryption import encryption_settings
from meshwright_common.testing.engines import DatabaseSettingsFor
from meshwright_common.testing.patience import PATIENT_DEADLINES
from meshwright_common.testing.quotas import QuotaDirectory
from services.chat.tests.peers import RememberingSessions, ScriptedAgents
from services.chat.tests.told import kinds, text_of

PERMISSIONS = frozenset(
    {"agent:execute", "chat:read", "chat:write", "session:read", "session:write", "task:read"}
)
WORDS = [f"word{number} " for number in range(40)]


class Mesh:
    """chat with its peers in this process; `chat` may be stopped and started like a process."""

    def __init__(self, database: DatabaseSettings, redis: RedisSettings) -> None:
        self.database = database
        self.redis = redis
        self.sessions = RememberingSessions()
        self.agents = ScriptedAgents(WORDS)
        self.directory = QuotaDirectory()
        self.queue_seconds = 600.0
        self.caller = Principal(new_id(), new_id(), "user", PERMISSIONS)

    @asynccontextmanager
    async def process(self) -> AsyncIterator[Any]:
        """Run a chat process; leaving the block stops it at once, its turns left as they are."""
        keys = ephemeral_keys(["chat", "gateway"])
        server = LocalServer(server_interceptors("test", TokenVerifier(keys.trusted)))
        add_SessionServiceServicer_to_server(self.sessions, server)
        add_AgentServiceServicer_to_server(self.agents, server)
        self.directory.register(server)
        peers = {"session": "local:", "orchestrator": "local:", "chat": "local:"}

        def channels(service: str) -> Channels:
            minter = TokenMinter(service, keys.private_key(service))
            return Channels(minter, peers, local_server=server, deadlines=PATIENT_DEADLINES)

        section = ChatSection(
            turn_lease_seconds=3,
            lease_renew_seconds=0.5,
            sweep_seconds=0.2,
            suspension_seconds=0.2,
            drain_seconds=0,
            queue_seconds=self.queue_seconds,
        )
        settings = Settings(
            database=self.database,
            redis=self.redis,
            encryption=encryption_settings(),
            quotas=QuotaSettings(fresh_seconds=0.2),
            chat=section,
        )
        async with AsyncExitStack() as stack:
            own = await stack.enter_async_context(channels("chat"))
            app: App = await stack.enter_async_context(build(settings, own))
            app.register(server)
            tasks = [asyncio.ensure_future(task.run()) for task in app.tasks]
            outside = await stack.enter_async_context(channels("gateway"))
            try:
                yield ChatServiceStub(outside.open("chat"))
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                assert app.drain is not None
                await app.drain()


@pytest_asyncio.fixture
async def mesh(
    database_settings: DatabaseSettingsFor, redis_settings: RedisSettings
) -> AsyncIterator[Mesh]:
    mesh = Mesh(await database_settings("meshwright_chat"), redis_settings)
    with bind(CallContext(principal=mesh.caller, request_id=new_id(), correlation_id=new_id())):
        yield mesh


async def collect(stub: Any, request: chat_service_pb2.StreamChatRequest) -> list[Any]:
    async with asyncio.timeout(20), open_stream(stub.StreamChat(request)) as responses:
        return [response.event async for response in responses]


async def resume(stub: Any, turn_id: str, after: int) -> list[Any]:
    request = chat_service_pb2.SubscribeTurnRequest(turn_id=turn_id, after_sequence=after)
    async with asyncio.timeout(15), open_stream(stub.SubscribeTurn(request)) as responses:
        return [response.event async for response in responses]


@pytest.mark.asyncio
async def test_a_turn_streams_its_answer_and_is_stored_once(mesh: Mesh) -> None:
    async with mesh.process() as chat:
        events = await collect(chat, chat_service_pb2.StreamChatRequest(message="why?"))
        turn_id = events[0].turn_id
        stored = (await chat.GetTurn(chat_service_pb2.GetTurnRequest(turn_id=turn_id))).turn
    assert list(range(1, len(events) + 1)) == [event.sequence for event in events]
    assert ("started", "completed") == (kinds(events)[0], kinds(events)[-1])
    assert "".join(WORDS) == text_of(events) == stored.answer == events[-1].completed.answer
    assert turn_pb2.TURN_STATE_COMPLETED == stored.state
    assert 7 == stored.citations[0].page
    (messages,) = mesh.sessions.messages.values()
    assert ["why?", "".join(WORDS)] == [stored.message.parts[0].text for stored in messages]


@pytest.mark.asyncio
async def test_resuming_after_any_event_gives_exactly_the_rest(mesh: Mesh) -> None:
    """R-13, for every cut."""
    async with mesh.process() as chat:
        events = await collect(chat, chat_service_pb2.StreamChatRequest(message="why?"))
        for position in range(len(events) + 1):
            rest = await resume(chat, events[0].turn_id, position)
            assert events[position:] == rest
        with pytest.raises(ServiceError) as beyond:
            await resume(chat, events[0].turn_id, len(events) + 1)
    assert "CURSOR_EXPIRED" == beyond.value.reason


@pytest.mark.asyncio
async def test_a_reader_that_leaves_does_not_end_the_turn(mesh: Mesh) -> None:
    gate = asyncio.Event()

    async def hold(number: int) -> None:
        if number == 5:
            await gate.wait()

    mesh.agents.gate = hold
    async with mesh.process() as chat:
        seen = []
        request = chat_service_pb2.StreamChatRequest(message="why?")
        async with asyncio.timeout(20), open_stream(chat.StreamChat(request)) as responses:
            async for response in responses:
                seen.append(response.event)
                if response.event.HasField("message_delta"):
                    break
        gate.set()
        rest = await resume(chat, seen[0].turn_id, seen[-1].sequence)
    assert "".join(WORDS) == text_of(seen + rest)
    assert "completed" == kinds(rest)[-1]


@pytest.mark.asyncio
async def test_a_turn_whose_process_stopped_is_restarted_by_another_and_told_whole(
    mesh: Mesh,
) -> None:
    gate = asyncio.Event()

    async def hold(number: int) -> None:
        if number == 20:
            await gate.wait()

    mesh.agents.gate = hold
    seen = []
    request = chat_service_pb2.StreamChatRequest(message="why?")
    async with (
        asyncio.timeout(20),
        mesh.process() as chat,
        open_stream(chat.StreamChat(request)) as responses,
    ):
        async for response in responses:
            seen.append(response.event)
            if "word19" in text_of(seen):
                break
    gate.set()
    async with mesh.process() as chat:
        rest = await resume(chat, seen[0].turn_id, seen[-1].sequence)
        whole = await resume(chat, seen[0].turn_id, 0)
    assert "restarted" == kinds(rest)[0]
    assert 2 == rest[0].restarted.attempt
    assert "".join(WORDS) == text_of(seen + rest) == text_of(whole)
    assert list(range(1, len(whole) + 1)) == [event.sequence for event in whole]
    assert 1 == kinds(whole).count("completed")
    (messages,) = mesh.sessions.messages.values()
    assert 2 == len(messages)


@pytest.mark.asyncio
async def test_a_turn_lost_after_its_answer_was_stored_asks_the_same_and_stores_nothing_twice(
    mesh: Mesh,
) -> None:
    committed, held = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        committed.set()
        await held.wait()

    async with mesh.process() as chat:
        events = await collect(chat, chat_service_pb2.StreamChatRequest(message="first?"))
        session_id = events[0].started.session_id
        mesh.sessions.after_commit = hold
        request = chat_service_pb2.StreamChatRequest(session_id=session_id, message="second?")
        async with asyncio.timeout(20), open_stream(chat.StreamChat(request)) as responses:
            turn_id = (await anext(responses)).event.turn_id
            await committed.wait()
    held.set()
    async with mesh.process() as chat:
        whole = await resume(chat, turn_id, 0)
    assert "completed" == kinds(whole)[-1]
    assert mesh.agents.asked[1] == mesh.agents.asked[2]
    assert 4 == len(mesh.sessions.messages[session_id])


@pytest.mark.asyncio
async def test_text_of_a_worker_that_was_replaced_is_withdrawn_to_its_checkpoint(
    mesh: Mesh,
) -> None:
    mesh.agents.stalls_after = 10
    async with mesh.process() as chat:
        events = await collect(chat, chat_service_pb2.StreamChatRequest(message="why?"))
    assert 1 == kinds(events).count("restarted")
    assert "".join(WORDS) == text_of(events) == events[-1].completed.answer


@pytest.mark.asyncio
async def test_cancel_ends_the_turn_and_its_task_and_every_reader(mesh: Mesh) -> None:
    gate = asyncio.Event()

    async def hold(number: int) -> None:
        if number == 3:
            await gate.wait()

    mesh.agents.gate = hold
    async with mesh.process() as chat:
        seen: list[Any] = []
        arrived = asyncio.Event()

        async def read() -> None:
            request = chat_service_pb2.StreamChatRequest(message="why?")
            async with open_stream(chat.StreamChat(request)) as responses:
                async for response in responses:
                    seen.append(response.event)
                    if "word2" in text_of(seen):
                        arrived.set()

        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(read())
            await arrived.wait()
            request = chat_service_pb2.CancelTurnRequest(turn_id=seen[0].turn_id)
            turn = (await chat.CancelTurn(request)).turn
            again = (await chat.CancelTurn(request)).turn
    assert turn_pb2.TURN_STATE_CANCELLED == turn.state == again.state
    assert "cancelled" == kinds(seen)[-1]
    assert mesh.caller.subject == seen[-1].cancelled.cancelled_by
    assert set(mesh.agents.task_ids.values()) == set(mesh.agents.cancelled)


@pytest.mark.asyncio
async def test_a_finished_turn_is_told_again_when_the_journal_is_gone(mesh: Mesh) -> None:
    async with mesh.process() as chat:
        events = await collect(chat, chat_service_pb2.StreamChatRequest(message="why?"))
        async with open_redis(mesh.redis) as client:
            await client.flushall()
        whole = await resume(chat, events[0].turn_id, 0)
        rest = await resume(chat, events[0].turn_id, 3)
    assert "".join(WORDS) == text_of(whole) == text_of(events[:3] + rest)
    assert ("started", "completed") == (kinds(whole)[0], kinds(whole)[-1])
    assert ("restarted", "completed") == (kinds(rest)[0], kinds(rest)[-1])


@pytest.mark.asyncio
async def test_the_same_request_id_follows_the_same_turn(mesh: Mesh) -> None:
    request = chat_service_pb2.StreamChatRequest(message="why?", request_id="once")
    async with mesh.process() as chat:
        first = await collect(chat, request)
        again = await collect(chat, request)
    assert first == again
    assert 1 == len(mesh.agents.executions)


@pytest.mark.asyncio
async def test_turns_of_other_users_and_tenants_look_absent(mesh: Mesh) -> None:
    """R-21: the same answer as for an id that never was."""
    async with mesh.process() as chat:
        events = await collect(chat, chat_service_pb2.StreamChatRequest(message="why?"))
        strangers = [
            Principal(mesh.caller.tenant_id, new_id(), "user", PERMISSIONS),
            Principal(new_id(), mesh.caller.subject, "user", PERMISSIONS),
        ]
        answers = []
        for stranger in (*strangers, mesh.caller):
            turn_id = new_id() if stranger is mesh.caller else events[0].turn_id
            with bind(CallContext(principal=stranger, request_id=new_id())):
                with pytest.raises(ServiceError) as read:
                    await chat.GetTurn(chat_service_pb2.GetTurnRequest(turn_id=turn_id))
                with pytest.raises(ServiceError) as stopped:
                    await chat.CancelTurn(chat_service_pb2.CancelTurnRequest(turn_id=turn_id))
                with pytest.raises(ServiceError) as followed:
                    await resume(chat, turn_id, 0)
            answers += [[(e.value.reason, e.value.message) for e in (read, stopped, followed)]]
    assert answers[2] == answers[0] == answers[1]
    assert {"TURN_NOT_FOUND"} == {reason for reason, _ in answers[0]}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("request_fields", "field"),
    [
        ({"message": ""}, "message"),
        ({"message": "  \n"}, "message"),
        ({"message": "x" * (256 * 1024 + 1)}, "message"),
        ({"message": "hi", "session_id": "no-uuid"}, "session_id"),
        ({"message": "hi", "request_id": "x" * 129}, "request_id"),
        ({"message": "hi", "agent": "x" * 201}, "agent"),
        ({"message": "hi", "knowledge_base_ids": ["k"] * 17}, "knowledge_base_ids"),
    ],
)
async def test_wrong_fields_are_refused_by_name(
    mesh: Mesh, request_fields: dict[str, Any], field: str
) -> None:
    async with mesh.process() as chat:
        with pytest.raises(ServiceError) as refused:
            await collect(chat, chat_service_pb2.StreamChatRequest(**request_fields))
        absent = chat_service_pb2.StreamChatRequest(message="hi", session_id=new_id())
        with pytest.raises(ServiceError) as unknown:
            await collect(chat, absent)
    assert ("INVALID_ARGUMENT", field) == (
        refused.value.reason,
        refused.value.field_violations[0].field,
    )
    assert "SESSION_NOT_FOUND" == unknown.value.reason
