"""The HTTP client to providers, against servers that do on the wire exactly what they are told."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from meshwright_common.identity.certificates import new_authority
from meshwright_common.testing.waiting import eventually
from meshwright_model_router.providers.http_client import client as client_module
from meshwright_model_router.providers.http_client.answer import BUFFER_BYTES, Answer
from meshwright_model_router.providers.http_client.client import Client
from meshwright_model_router.providers.http_client.connection import MAX_HEAD_BYTES
from meshwright_model_router.providers.http_client.errors import (
    AddressRefused,
    ConnectTimeout,
    Disconnected,
    HeadTimeout,
    NotHttp,
    RequestUnsendable,
    Truncated,
)

pytestmark = pytest.mark.asyncio

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
Behaviour = Callable[["Served"], Awaitable[None]]


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
        self.writer.write(data)
        await self.writer.drain()


@dataclass
class Server:
    """A server whose every connection does `behaviour`."""

    behaviour: Behaviour
    url: str = ""
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    closed: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    opened = Client(2)
    yield opened
    await opened.close()


def _longer_than(items: list[bytes], count: int) -> bool:
    return len(items) > count


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
        await eventually(lambda: server.closed == 1, timeout_seconds=2)


async def test_chunk_sizes_that_are_none_break_the_body(client: Client) -> None:
    async with serving(answering(CHUNKED + b"2\r\nok\r\nzz\r\n")) as server:
        answer = await post(client, server.url)
        assert await answer.content.readany() == b"ok"
        with pytest.raises(NotHttp):
            await answer.content.readany()


async def test_request_is_not_sent_again_when_it_may_have_arrived(client: Client) -> None:
    """A generation costs money: only the caller's own rules may repeat it."""
    requests = 0

    async def behave(served: Served) -> None:
        nonlocal requests
        await served.request()
        requests += 1
        if requests == 1:
            await served.send(OK)
            await served.request()
            requests += 1

    async with serving(behave) as server:
        assert await whole(await post(client, server.url)) == b"ok"
        with pytest.raises(Disconnected):
            await post(client, server.url)
        assert requests == 2


async def test_connection_closed_while_idle_costs_the_next_request_nothing(client: Client) -> None:
    may_close = asyncio.Event()

    async def behave(served: Served) -> None:
        await served.request()
        await served.send(OK)
        await may_close.wait()

    async with serving(behave) as server:
        assert await whole(await post(client, server.url)) == b"ok"
        may_close.set()
        await eventually(lambda: server.closed == 1, timeout_seconds=2)
        assert await whole(await post(client, server.url)) == b"ok"
        assert server.connections == 2


async def test_answer_that_nobody_asked_for_ends_the_connection(client: Client) -> None:
    """The next request must not get another one's answer."""
    async with serving(answering(OK + OK, OK)) as server:
        assert await whole(await post(client, server.url)) == b"ok"
        assert client.idle_connections(server.url) == 0
        assert await whole(await post(client, server.url)) == b"ok"
        assert server.connections == 2


async def test_requests_beyond_the_limit_wait_in_order(client: Client) -> None:
    gate = asyncio.Semaphore(0)

    async def behave(served: Served) -> None:
        while True:
            body = (await served.request()).rpartition(b"\r\n")[2]
            await gate.acquire()
            await served.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    async with serving(behave) as server:
        done: list[bytes] = []

        async def ask(number: int) -> None:
            done.append(await whole(await post(client, server.url, b"%d" % number)))

        async with asyncio.TaskGroup() as group:
            for number in range(6):
                group.create_task(ask(number))
            for count in range(6):
                gate.release()
                await eventually(partial(_longer_than, done, count), timeout_seconds=2)
        assert server.connections == 2
        assert sorted(done[:2]) == [b"0", b"1"]
        assert sorted(done[2:4]) == [b"2", b"3"]


async def test_waiting_for_a_free_connection_has_an_end(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "POOL_WAIT_SECONDS", 0.02)
    async with serving(answering(CHUNKED)) as server:
        held = [await post(client, server.url) for _ in range(2)]
        with pytest.raises(ConnectTimeout):
            await client.post(server.url, "x", b"", {}, connect_seconds=0.02, seconds=5.0)
        held[0].release()
        # Its place is free at once, also for those who came while it was taken.
        assert (await post(client, server.url)).status == 200


async def test_whoever_leaves_while_waiting_takes_no_connection_along(client: Client) -> None:
    async with serving(answering(OK)) as server:
        held = [await post(client, server.url) for _ in range(2)]
        waiting = asyncio.create_task(post(client, server.url))
        await asyncio.sleep(0)
        waiting.cancel()
        for answer in held:
            assert await whole(answer) == b"ok"
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await whole(await post(client, server.url)) == b"ok"
        assert (server.connections, client.idle_connections(server.url)) == (2, 2)


async def test_head_that_does_not_come_is_a_timeout_and_closes(client: Client) -> None:
    async def behave(served: Served) -> None:
        await served.request()
        await served.reader.read()

    async with serving(behave) as server:
        with pytest.raises(HeadTimeout):
            await post(client, server.url, seconds=0.05)
        await eventually(lambda: server.closed == 1, timeout_seconds=2)


async def test_end_of_a_body_may_come_after_its_reader_has_left(client: Client) -> None:
    """As after [DONE]: the last chunk is often a packet of its own."""
    may_end = asyncio.Event()

    async def behave(served: Served) -> None:
        await served.request()
        await served.send(CHUNKED + b"2\r\nok\r\n")
        await may_end.wait()
        await served.send(b"0\r\n\r\n")
        await answering(OK)(served)

    async with serving(behave) as server:
        answer = await post(client, server.url)
        assert await answer.content.readany() == b"ok"
        answer.release(at_its_end=True)
        assert client.idle_connections(server.url) == 0
        may_end.set()
        await eventually(lambda: client.idle_connections(server.url) == 1, timeout_seconds=2)
        next_answer = await post(client, server.url)
        # Late words of a former holder do not reach the connection's next one.
        answer.release()
        assert await whole(next_answer) == b"ok"
        assert server.connections == 1


async def test_leaving_amid_a_body_closes_the_connection(client: Client) -> None:
    """This is what tells a provider to stop."""
    gone = 0

    async def behave(served: Served) -> None:
        nonlocal gone
        await served.request()
        await served.send(CHUNKED + b"2\r\nok\r\n")
        gone += await served.reader.read() == b""

    async with serving(behave) as server:
        answer = await post(client, server.url)
        assert await answer.content.readany() == b"ok"
        answer.release()
        await eventually(lambda: gone == 1, timeout_seconds=2)
        assert client.idle_connections(server.url) == 0


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
        await eventually(lambda: body._paused, timeout_seconds=5)  # type: ignore[union-attr]
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


async def test_certificate_has_to_be_vouched_for_and_to_name_the_server(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = new_authority(timedelta(days=1))
    chain, key = authority.issue(["provider"], timedelta(days=1))
    (tmp_path / "chain.pem").write_bytes(chain + key)
    (tmp_path / "authority.pem").write_bytes(authority.pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "chain.pem")
    named: list[str] = []
    context.sni_callback = lambda _socket, name, _context: named.append(name)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    async with (
        serving(answering(OK), context) as server,
        serving(answering(OK), context, "127.0.0.2") as misnamed,
    ):
        by_name = server.url.replace("127.0.0.1", "localhost")
        assert await whole(await post(client, by_name)) == b"ok"
        assert named[-1] == "localhost"
        with pytest.raises(ssl.SSLCertVerificationError):
            await post(client, misnamed.url)
        monkeypatch.delenv("SSL_CERT_FILE")
        stranger = Client(2)
        with pytest.raises(ssl.SSLCertVerificationError):
            await post(stranger, by_name)
        await stranger.close()


async def test_name_is_asked_for_once_and_all_its_addresses_are_tried(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo

    async def getaddrinfo(host: str, port: int, **options: int) -> list[object]:
        if host != "provider.example.org":
            return list(await real(host, port, **options))
        asked.append(host)
        await asyncio.sleep(0)
        # Nobody listens at the first.
        nobody = await real("127.0.0.3", port, **options)
        return [*nobody, *await real("127.0.0.1", port, **options)]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    async with serving(answering(OK)) as server:
        url = server.url.replace("127.0.0.1", "provider.example.org")
        answers = await asyncio.gather(*(post(client, url) for _ in range(2)))
        assert [await whole(answer) for answer in answers] == [b"ok", b"ok"]
        assert asked == ["provider.example.org"]


async def test_public_only_refuses_private_addresses_whatever_the_host_is_called(
    client: Client,
) -> None:
    async with serving(answering(OK)) as server:
        assert await whole(await post(client, server.url)) == b"ok"
        # Not over the connection that others of the same host left idle either.
        for url in (server.url, server.url.replace("127.0.0.1", "localhost")):
            with pytest.raises(AddressRefused):
                await client.post(
                    url, "x", b"", {}, connect_seconds=1.0, seconds=1.0, public_only=True
                )
        assert server.connections == 1
