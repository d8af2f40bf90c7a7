"""Answers of the HTTP client: every framing, every limit, and what is no answer."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from meshwright_common.context import CallContext, bind
from meshwright_common.telemetry import propagation
from meshwright_common.testing.told_server import CHUNKED, OK, Served, answering, serving
from meshwright_common.testing.waiting import eventually
from meshwright_model_router.providers.http_client.answer import BUFFER_BYTES, Answer
from meshwright_model_router.providers.http_client.client import Client
from meshwright_model_router.providers.http_client.connection import MAX_HEAD_BYTES
from meshwright_model_router.providers.http_client.errors import (
    NotHttp,
    RequestUnsendable,
    Truncated,
)

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    opened = Client(2)
    yield opened
    await opened.close()


async def post(client: Client, url: str, body: bytes = b"{}", seconds: float = 5.0) -> Answer:
    return await client.post(
        url, "chat", body, {"authorization": "Bearer k"}, connect_seconds=1.0, seconds=seconds
    )


async def whole(answer: Answer) -> bytes:
    parts: list[bytes] = []
    while part := await answer.content.readany():
        parts.append(part)
    answer.release()
    return b"".join(parts)


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (OK, b"ok"),
        (CHUNKED + b"2\r\nok\r\n3;x=y\r\nay!\r\n0\r\ntrailer: 1\r\n\r\n", b"okay!"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length:0\r\n\r\n", b""),
    ],
)
async def test_bodies_of_every_framing_are_whole_and_keep_the_connection(
    client: Client, sent: bytes, body: bytes
) -> None:
    async with serving(answering(sent)) as server:
        for _ in range(3):
            assert await whole(await post(client, server.url)) == body
        assert (server.connections, client.idle_connections(server.url)) == (1, 1)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\nx: y\r\n\r\n"])
async def test_body_without_a_length_ends_with_the_connection(client: Client, head: bytes) -> None:
    async def behave(served: Served) -> None:
        await served.request()
        await served.send(head + b"until the end")

    async with serving(behave) as server:
        for count in (1, 2):
            assert await whole(await post(client, server.url)) == b"until the end"
            assert server.connections == count


async def test_connection_that_the_server_closes_after_the_answer_is_not_used_again(
    client: Client,
) -> None:
    closing = OK.replace(b"200 OK\r\n", b"200 OK\r\nconnection: close\r\n")
    async with serving(answering(closing)) as server:
        for count in (1, 2):
            assert await whole(await post(client, server.url)) == b"ok"
            assert (server.connections, client.idle_connections(server.url)) == (count, 0)


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok",
        CHUNKED + b"2\r\nok\r\n",
        CHUNKED + b"ffff\r\nok",
    ],
)
async def test_body_that_breaks_off_gives_what_came_and_then_says_so(
    client: Client, sent: bytes
) -> None:
    async def behave(served: Served) -> None:
        await served.request()
        await served.send(sent)

    async with serving(behave) as server:
        answer = await post(client, server.url)
        assert await answer.content.readany() == b"ok"
        with pytest.raises(Truncated):
            await answer.content.readany()


@pytest.mark.parametrize(
    "sent",
    [
        b"220 mail.example.org ESMTP\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * (MAX_HEAD_BYTES + 10),
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000,
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n\0\1",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
    ],
)
async def test_what_is_no_answer_is_refused_within_its_limits(client: Client, sent: bytes) -> None:
    async def behave(served: Served) -> None:
        await served.request()
        await served.send(sent)
        await served.reader.read()

    async with serving(behave) as server:
        with pytest.raises(NotHttp):
            await post(client, server.url)
        await eventually(lambda: server.closed == 1)


async def test_chunk_sizes_that_are_none_break_the_body(client: Client) -> None:
    async with serving(answering(CHUNKED + b"2\r\nok\r\nzz\r\n")) as server:
        answer = await post(client, server.url)
        assert await answer.content.readany() == b"ok"
        with pytest.raises(NotHttp):
            await answer.content.readany()


async def test_body_that_nobody_reads_holds_the_server_back(client: Client) -> None:
    sent = 0

    async def behave(served: Served) -> None:
        nonlocal sent
        await served.request()
        await served.send(CHUNKED)
        piece = b"%x\r\n" % 65536 + b"x" * 65536 + b"\r\n"
        for _ in range(200):
            await served.send(piece)
            sent += 65536
        await served.send(b"0\r\n\r\n")

    async with serving(behave) as server:
        answer = await post(client, server.url)
        body = answer.content
        await eventually(lambda: body._paused)  # type: ignore[union-attr]
        assert body._size < BUFFER_BYTES + 1024 * 1024  # type: ignore[union-attr]
        assert len(await whole(answer)) == 65536 * 200
        assert sent == 65536 * 200


async def test_compressed_body_is_read_piece_by_piece(client: Client) -> None:
    """A bomb of 100 MB in 100 KB never lies in memory as a whole."""
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS + 16)
    packed = packer.compress(bytes(100_000_000)) + packer.flush()
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n"
    async with serving(answering(head % len(packed) + packed)) as server:
        answer = await post(client, server.url)
        longest = total = 0
        while part := await answer.content.readany():
            longest, total = max(longest, len(part)), total + len(part)
        assert (longest <= 1024 * 1024, total) == (True, 100_000_000)
        answer.release()
        assert client.idle_connections(server.url) == 1


@pytest.mark.parametrize("encoding", [b"br", b"gzip"])
async def test_body_in_another_compression_is_refused(client: Client, encoding: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: %b\r\ncontent-length: 2\r\n\r\nok"
    async with serving(answering(head % encoding)) as server:
        answer = await post(client, server.url)
        with pytest.raises(NotHttp):
            await answer.content.readany()
        answer.release()


@pytest.mark.parametrize(
    ("url", "path", "headers"),
    [
        ("http://127.0.0.1:1/v1", "x", {"authorization": "Bearer a\r\nx-evil: 1"}),
        ("http://127.0.0.1:1/v1", "x", {"x\r\ny": "1"}),
        ("http://127.0.0.1:1/v1", "x", {"authorization": "Bearer ключ"}),
        ("http://127.0.0.1:1/v1", "x HTTP/1.1\r\nhost: y", {}),
        ("http://127.0.0.1:1/v 1", "x", {}),
        ("ftp://127.0.0.1/v1", "x", {}),
        ("http://127.0.0.1:99999/v1", "x", {}),
    ],
)
async def test_request_that_cannot_be_written_is_not_sent(
    client: Client, url: str, path: str, headers: dict[str, str]
) -> None:
    with pytest.raises(RequestUnsendable) as raised:
        await client.post(url, path, b"{}", headers, connect_seconds=1.0, seconds=1.0)
    assert "Bearer" not in str(raised.value)


async def test_request_is_as_the_server_expects_it(client: Client) -> None:
    got: list[bytes] = []

    async def behave(served: Served) -> None:
        got.append(await served.request())
        await served.send(OK)

    async with serving(behave) as server:
        body = b"x" * 300_000
        assert await whole(await post(client, server.url, body)) == b"ok"
        head, _, received = got[0].partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert received == body
        assert lines[0] == b"POST /v1/chat HTTP/1.1"
        assert lines[1] == b"host: " + server.url.split("/")[2].encode()
        assert {b"authorization: Bearer k", b"content-length: 300000"} <= set(lines)


async def test_only_hosts_that_a_setting_names_are_told_of_the_trace(client: Client) -> None:
    """A provider could tie requests of different users together by it."""
    heads: list[bytes] = []

    async def behave(served: Served) -> None:
        while True:
            heads.append((await served.request()).lower())
            await served.send(OK)

    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with bind(CallContext(traceparent=trace, tracestate="a=1")):
        async with serving(behave) as server:
            await whole(await post(client, server.url))
            propagation.configure(["127.0.0.1"], trust_callers=False)
            try:
                told = Client(1)
                await whole(await post(told, server.url))
                await told.close()
            finally:
                propagation.configure([], trust_callers=False)
    assert b"trace" not in heads[0]
    assert f"traceparent: {trace}\r\ntracestate: a=1\r\n".encode() in heads[1]
