"""An HTTP server that does on the wire exactly what a test tells it, right or wrong."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

OK: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED: Final = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
Behaviour: TypeAlias = Callable[["Served"], Awaitable[None]]


@dataclass
class Served:
    """One connection at the server: requests that came, and the way back."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int

    async def request(self) -> bytes:
        """Return the next request, head and body. Raises: IncompleteReadError at the end."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return head + await self.reader.readexactly(int(length or 0))

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()


@dataclass
class Server:
    """A server whose every connection does `behaviour`."""

    behaviour: Behaviour
    url: str = ""
    connections: int = 0
    closed: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Do the behaviour on one connection, which ends with it."""
        self.connections += 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await self.behaviour(Served(reader, writer, self.connections))
        finally:
            self.closed += 1
            writer.close()


@contextlib.asynccontextmanager
async def serving(
    behaviour: Behaviour, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Server]:
    """Serve on a free port until the block ends; `url` ends with /v1."""
    server = Server(behaviour)
    listener = await asyncio.start_server(server.serve, host, 0, ssl=tls)
    scheme = "https" if tls is not None else "http"
    server.url = f"{scheme}://{host}:{listener.sockets[0].getsockname()[1]}/v1"
    try:
        yield server
    finally:
        listener.close()


def answering(*answers: bytes) -> Behaviour:
    """Answer the first request with the first of `answers`, and so on; the last one for ever."""

    async def behave(served: Served) -> None:
        for answer in answers:
            await served.request()
            await served.send(answer)
        while True:
            await served.request()
            await served.send(answers[-1])

    return behave
