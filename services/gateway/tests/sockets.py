"""A client of the WebSocket, as tests write to it and read from it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect

from services.gateway.tests.peers import Script, turn_events
from services.gateway.tests.platform import Platform

Json = dict[str, Any]
PATH = "/api/v1/ws"


class Socket:
    """An open socket; keeps what has come for other conversations than those asked for."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self._others: list[Json] = []

    async def send(self, **message: Any) -> None:
        """Send a message."""
        await self.connection.send(orjson.dumps(message).decode())

    async def receive(self) -> Json:
        """Return the next message, of whatever conversation."""
        if self._others:
            return self._others.pop(0)
        message: Json = orjson.loads(await self.connection.recv())
        return message

    async def until_end(self, conversation_id: str) -> list[Json]:
        """Return the messages of a conversation to its last one."""
        found: list[Json] = []
        others: list[Json] = []
        while not found or found[-1]["type"] not in {"end", "error"}:
            message = await self.receive()
            (found if message.get("id") == conversation_id else others).append(message)
        self._others = others + self._others
        return found


@asynccontextmanager
async def opened(platform: Platform, **options: Any) -> AsyncIterator[Socket]:
    """Open a socket with the caller's key until the block is left."""
    options.setdefault("additional_headers", platform.headers)
    url = platform.url.replace("http://", "ws://") + PATH
    async with connect(url, proxy=None, close_timeout=1, **options) as connection:
        yield Socket(connection)


def names(messages: list[Json]) -> list[str]:
    """Return what the messages of a conversation are."""
    return [str(one.get("event", one["type"])) for one in messages]


def waiting_before(sequence: int, gate: asyncio.Event, platform: Platform) -> None:
    """Let every turn wait for `gate` before its event of this sequence."""
    platform.peers.chat.script = lambda turn_id, _: Script(
        turn_events(turn_id, "a", "b"), waits_before={sequence: gate}
    )


def places_taken(platform: Platform) -> int:
    """Return how many requests of users are under way."""
    return sum(one.count for one in platform.gateway.limits.requests._holders.values())
