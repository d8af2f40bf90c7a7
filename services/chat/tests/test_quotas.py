"""Turns begin within the quota of their tenant, and end when it is suspended."""

import asyncio
from typing import Any

import pytest

from meshwright.chat.v1 import chat_service_pb2
from meshwright.session.v1 import tenant_pb2
from meshwright_common.errors import ResourceExhausted, ServiceError
from meshwright_common.rpc.stream import open_stream
from meshwright_common.testing.waiting import eventually
from services.chat.tests.test_turns import Mesh, collect, mesh
from services.chat.tests.told import kinds

__all__ = ["mesh"]


class Gate:
    """Holds the words of every agent until it is opened."""

    def __init__(self, mesh: Mesh) -> None:
        self.reached, self.opened = asyncio.Event(), asyncio.Event()
        mesh.agents.gate = self.wait

    async def wait(self, number: int) -> None:
        self.reached.set()
        await self.opened.wait()


async def begun(stub: Any, request: chat_service_pb2.StreamChatRequest) -> str:
    """Begin a turn and leave; return its id, or the reason why there is none."""
    try:
        async with asyncio.timeout(20), open_stream(stub.StreamChat(request)) as responses:
            async for response in responses:
                return str(response.event.turn_id)
    except ServiceError as error:
        return error.reason
    raise AssertionError("no event and no error")


@pytest.mark.asyncio
async def test_of_many_turns_at_once_as_many_begin_as_may_run(mesh: Mesh) -> None:
    """Two processes, one tenant: exact over both."""
    mesh.directory.limits[mesh.caller.tenant_id] = tenant_pb2.Quota(max_concurrent_turns=3)
    gate = Gate(mesh)
    async with mesh.process() as one, mesh.process() as other:
        got = await asyncio.gather(
            *(
                begun(stub, chat_service_pb2.StreamChatRequest(message="Hello"))
                for stub in (one, other) * 5
            )
        )
        assert 7 == got.count("QUOTA_EXCEEDED")
        assert 3 == len({one for one in got if one != "QUOTA_EXCEEDED"})
        gate.opened.set()


@pytest.mark.asyncio
async def test_a_refused_turn_says_what_is_used_and_leaves_no_session(mesh: Mesh) -> None:
    mesh.directory.limits[mesh.caller.tenant_id] = tenant_pb2.Quota(max_concurrent_turns=1)
    gate = Gate(mesh)
    async with mesh.process() as chat:
        await begun(chat, chat_service_pb2.StreamChatRequest(message="Hello"))
        with pytest.raises(ResourceExhausted) as refused:
            await collect(chat, chat_service_pb2.StreamChatRequest(message="Hello again"))
        assert {"quota": "concurrent_turns", "limit": "1", "used": "1"}.items() <= (
            refused.value.metadata.items()
        )
        assert refused.value.retry_after_seconds
        assert 1 == len(mesh.sessions.messages)
        gate.opened.set()


@pytest.mark.asyncio
async def test_spent_tokens_refuse_new_turns_and_a_repeated_request_is_still_followed(
    mesh: Mesh,
) -> None:
    tenant_id = mesh.caller.tenant_id
    request = chat_service_pb2.StreamChatRequest(message="Hello", request_id="once")
    async with mesh.process() as chat:
        before = await collect(chat, request)
        mesh.directory.limits[tenant_id] = tenant_pb2.Quota(max_tokens_per_day=100)
        mesh.directory.used[tenant_id] = tenant_pb2.Quota(max_tokens_per_day=100)

        async def is_refused() -> bool:
            new = chat_service_pb2.StreamChatRequest(message="Hello")
            return await begun(chat, new) == "QUOTA_EXCEEDED"

        await eventually(is_refused)
        assert before[0].turn_id == (await collect(chat, request))[0].turn_id


@pytest.mark.asyncio
async def test_turns_of_a_suspended_tenant_are_cancelled_and_none_begins(mesh: Mesh) -> None:
    gate = Gate(mesh)
    async with mesh.process() as chat:
        reading = asyncio.ensure_future(
            collect(chat, chat_service_pb2.StreamChatRequest(message="Hello"))
        )
        await asyncio.wait_for(gate.reached.wait(), 20)
        mesh.directory.suspended.add(mesh.caller.tenant_id)
        events = await reading
        assert "cancelled" == kinds(events)[-1]
        assert "TENANT_SUSPENDED" == await begun(
            chat, chat_service_pb2.StreamChatRequest(message="Hello")
        )
