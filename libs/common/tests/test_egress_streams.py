"""Answers that are read as they come, through the same guard (R-27)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from meshwright_common.egress import (
    EgressClient,
    EgressFailed,
    EgressRefused,
    EgressSettings,
    EgressTimeout,
    open_egress,
)
from meshwright_common.storage.embedded.process import free_port

pytestmark = pytest.mark.asyncio


@contextlib.asynccontextmanager
async def serving(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[tuple[EgressClient, str]]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    allowed = EgressSettings(allowed_hosts=(f"127.0.0.1:{server.port}",))
    try:
        async with open_egress(allowed, for_streams=True) as client:
            yield client, f"http://127.0.0.1:{server.port}/"
    finally:
        await server.close()


async def read(
    client: EgressClient, url: str, *, read_timeout_seconds: float | None = None
) -> bytes:
    async with client.stream(
        "POST", url, headers={}, body=b"", read_timeout_seconds=read_timeout_seconds
    ) as answer:
        return b"".join([piece async for piece in answer.pieces])


async def test_pieces_come_before_the_answer_ends_and_connections_are_kept() -> None:
    more = asyncio.Event()
    peers: set[object] = set()

    async def handler(request: web.Request) -> web.StreamResponse:
        peers.add(request.transport.get_extra_info("peername") if request.transport else None)
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"one")
        await more.wait()
        await answer.write(b"two")
        return answer

    async with serving(handler) as (client, url):
        for _ in range(2):
            more.clear()
            async with client.stream("POST", url, headers={}, body=b"{}") as answer:
                assert b"one" == await anext(answer.pieces)
                more.set()
                assert [b"two"] == [piece async for piece in answer.pieces]
    assert 1 == len(peers)


async def test_redirects_are_answers_and_packed_ones_are_refused() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/away":
            raise web.HTTPTemporaryRedirect("http://169.254.169.254/")
        return web.Response(body=b"x", headers={"content-encoding": "gzip"})

    async with serving(handler) as (client, url):
        async with client.stream("GET", f"{url}away", headers={}, body=None) as answer:
            assert 307 == answer.status
        with pytest.raises(EgressFailed):
            await read(client, url)


async def test_what_was_not_sent_is_told_from_what_broke_on_the_way() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        await answer.write(b"one")
        if request.path == "/break" and request.transport is not None:
            request.transport.close()
        await asyncio.Event().wait()
        return answer

    async with serving(handler) as (client, url):
        closed = f"http://127.0.0.1:{free_port()}/"
        for refused in ("http://10.0.0.1/", "http://localhost/", closed):
            with pytest.raises(EgressRefused):
                await read(client, refused)
        with pytest.raises(EgressFailed) as broken:
            await read(client, f"{url}break")
        assert "sent" not in broken.value.metadata
        with pytest.raises(EgressTimeout):
            await read(client, url, read_timeout_seconds=0.2)
    nobody = EgressSettings(allowed_hosts=(closed.removeprefix("http://").strip("/"),))
    async with open_egress(nobody, for_streams=True) as client:
        with pytest.raises(EgressFailed) as unsent:
            await read(client, closed)
    assert "no" == unsent.value.metadata["sent"]
