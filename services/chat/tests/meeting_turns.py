"""Turns of one session that meet: held at a word, asked in the background, looked at."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from meshwright.chat.v1 import chat_service_pb2
from meshwright_common.context import CallContext, bind
from meshwright_common.errors import ServiceError
from meshwright_common.ids import new_id
from meshwright_common.rpc.stream import open_stream
from meshwright_common.testing.waiting import eventually
from services.chat.tests.test_turns import Mesh
from services.chat.tests.told import kinds, text_of


class Gate:
    """Holds the agent's words from the fifth on, until it is opened."""

    def __init__(self, mesh: Mesh) -> None:
        self.opened = asyncio.Event()
        self.reached = asyncio.Event()
        mesh.agents.gate = self._hold

    async def _hold(self, number: int) -> None:
        if number == 5:
            self.reached.set()
            await self.opened.wait()


class Asked:
    """A question whose stream is read in the background."""

    def __init__(self, mesh: Mesh, chat: Any, request: chat_service_pb2.StreamChatRequest) -> None:
        self.events: list[Any] = []
        self.error: ServiceError | None = None
        context = CallContext(principal=mesh.caller, request_id=new_id(), correlation_id=new_id())
        self._task = asyncio.create_task(self._read(chat, request, context))

    async def _read(self, chat: Any, request: Any, context: CallContext) -> None:
        try:
            with bind(context):
                async with open_stream(chat.StreamChat(request)) as responses:
                    async for response in responses:
                        self.events.append(response.event)
        except ServiceError as error:
            self.error = error

    @property
    def turn_id(self) -> str:
        return str(self.events[0].turn_id)

    @property
    def kinds(self) -> list[str]:
        return kinds(self.events)

    async def begun(self) -> "Asked":
        await eventually(lambda: bool(self.events))
        return self

    async def end(self) -> list[Any]:
        async with asyncio.timeout(15):
            await self._task
        return self.events

    def leave(self) -> None:
        self._task.cancel()


@asynccontextmanager
async def a_running_turn(
    mesh: Mesh,
) -> AsyncIterator[tuple[Any, Gate, Asked, Callable[..., Asked]]]:
    """A session whose first turn is held at its fifth word; and how to ask there again."""
    async with mesh.process() as chat:
        gate = Gate(mesh)
        first = Asked(mesh, chat, chat_service_pb2.StreamChatRequest(message="first?"))
        await eventually(lambda: "word4" in text_of(first.events))
        session_id = first.events[0].started.session_id

        def ask(message: str, policy: Any, **fields: Any) -> Asked:
            request = chat_service_pb2.StreamChatRequest(
                session_id=session_id, message=message, concurrency=policy, **fields
            )
            return Asked(mesh, chat, request)

        yield chat, gate, first, ask


def said(mesh: Mesh, session_id: str) -> list[str]:
    return [
        "".join(part.text for part in one.message.parts)
        for one in mesh.sessions.messages[session_id]
    ]


async def state(chat: Any, turn_id: str) -> Any:
    return (await chat.GetTurn(chat_service_pb2.GetTurnRequest(turn_id=turn_id))).turn


async def cancel(chat: Any, turn_id: str) -> Any:
    return (await chat.CancelTurn(chat_service_pb2.CancelTurnRequest(turn_id=turn_id))).turn
