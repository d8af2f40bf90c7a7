"""The raw relay: the least that a Python gateway can do, and so the measure of all others.

uvicorn with uvloop and httptools, a raw ASGI application, aiohttp to the provider, bytes passed
on as they come. No authentication, no limits, no parsing.

    python -m bench.raw_relay --upstream http://127.0.0.1:9000

prints `listening 127.0.0.1:PORT` when it is ready.
"""

import argparse
import socket
from typing import TYPE_CHECKING

import aiohttp
import uvicorn

from bench.load import loopback_address

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, HTTPScope, Scope

_PASSED_ON = frozenset({b"authorization", b"content-type", b"accept"})
_PASSED_BACK = frozenset({b"content-type", b"content-length", b"retry-after"})
BACKLOG = 2048


class Relay:
    """The ASGI application."""

    def __init__(self, upstream: str, port: int) -> None:
        """Relay to `upstream`; `port` is only printed."""
        self._upstream = upstream.rstrip("/")
        self._port = port
        self._session: aiohttp.ClientSession | None = None

    async def __call__(
        self, scope: "Scope", receive: "ASGIReceiveCallable", send: "ASGISendCallable"
    ) -> None:
        """Serve one request, or the application's life."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            assert self._session is not None  # noqa: S101 - uvicorn runs the lifespan first
            await self._relay(self._session, scope, receive, send)

    async def _live(self, receive: "ASGIReceiveCallable", send: "ASGISendCallable") -> None:
        await receive()
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False
        ) as self._session:
            print(f"listening 127.0.0.1:{self._port}", flush=True)
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _relay(
        self,
        session: aiohttp.ClientSession,
        scope: "HTTPScope",
        receive: "ASGIReceiveCallable",
        send: "ASGISendCallable",
    ) -> None:
        headers = {
            name.decode(): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in _PASSED_ON
        }
        body = await _body(receive)
        async with session.request(
            scope["method"], self._upstream + scope["path"], data=body, headers=headers
        ) as answer:
            await send(
                {
                    "type": "http.response.start",
                    "status": answer.status,
                    "headers": [
                        (name.lower(), value)
                        for name, value in answer.raw_headers
                        if name.lower() in _PASSED_BACK
                    ],
                    "trailers": False,
                }
            )
            async for data in answer.content.iter_any():
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _body(receive: "ASGIReceiveCallable") -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(parts)
        parts.append(message["body"])
        if not message["more_body"]:
            return b"".join(parts)


def main() -> None:
    """Serve until interrupted or terminated."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--upstream", required=True, help="base URL without /v1")
    arguments.add_argument("--port", type=int, default=0, help="0 takes a free port")
    options = arguments.parse_args()
    loopback_address(options.upstream)
    listener = socket.create_server(("127.0.0.1", options.port), backlog=BACKLOG)
    relay = Relay(options.upstream, listener.getsockname()[1])
    config = uvicorn.Config(
        relay,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
