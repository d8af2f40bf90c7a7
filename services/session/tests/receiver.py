"""A tenant's server that takes webhooks, as well or badly as a test says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from aiohttp import web
from aiohttp.test_utils import TestServer

Reply: TypeAlias = Callable[[int], web.Response]
"""What the n-th request is answered, from 1."""


@dataclass(frozen=True)
class Received:
    """One request."""

    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """Takes requests at `/hook`. `gate`: they wait for it before they are answered."""

    port: int = 0
    reply: Reply = lambda _: web.Response(status=204)
    gate: asyncio.Event | None = None
    received: list[Received] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it takes them."""
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def host(self) -> str:
        """What an operator allows."""
        return f"127.0.0.1:{self.port}"

    async def take(self, request: web.Request) -> web.Response:
        """Note a request and answer it."""
        self.received.append(Received(dict(request.headers), await request.read()))
        if self.gate is not None:
            await self.gate.wait()
        return self.reply(len(self.received))


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Run a receiver on the loopback."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.take)
    async with TestServer(app, host="127.0.0.1") as server:
        assert server.port is not None
        receiver.port = server.port
        yield receiver
