"""The guarded HTTP client (R-27, S-38 to S-41, S-43)."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from meshwright_common.egress import (
    MAX_BODY_BYTES,
    EgressClient,
    EgressFailed,
    EgressRefused,
    EgressSettings,
    EgressTimeout,
    EgressTooLarge,
    open_egress,
)

pytestmark = pytest.mark.asyncio

SPELLINGS = [
    "http://127.0.0.1/",
    "http://127.1/",
    "http://0x7f000001/",
    "http://2130706433/",
    "http://017700000001/",
    "http://0177.0.0.1/",
    "http://0/",
    "http://127.0.0.1./",
    "http://localhost/",
    "http://LOCALHOST/",
    "http://[::]/",
    "http://[::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[fe80::1%25lo]/",
    "http://①②⑦.0.0.1/",
    "http://127。0。0。1/",
    "http://10.0.0.1/",
    "http://169.254.169.254/latest/meta-data",
    "http://192.168.0.1/",
    "https://172.16.0.1/",
    "http://100.64.0.1/",
    "http://224.0.0.1/",
]
MALFORMED = [
    "",
    "example.com",
    "//example.com/",
    "http://",
    "http:///etc/passwd",
    "file:///etc/passwd",
    "ftp://example.com/",
    "gopher://example.com/",
    "data:text/plain,hello",
    "unix:///run/docker.sock",
    "http+unix://%2Frun%2Fdocker.sock/info",
    "javascript:alert(1)",
    "http://user@example.com/",
    "http://user:password@example.com/",
    "http://example.com@127.0.0.1/",
    "http://127.0.0.1#@example.com/",
    "http://example.com\\@127.0.0.1/",
    "http://exam\tple.com/",
    "http://example.com/a\r\nHost: 127.0.0.1",
    "http://example.com/ HTTP/1.1",
    "http://example.com:22/",
    "http://example.com:6379/",
    "http://example.com:99999/",
    "http://[::1/",
    "http://" + "a" * 3000 + ".com/",
]


@contextlib.asynccontextmanager
async def serving(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[TestServer]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    try:
        yield server
    finally:
        await server.close()


@contextlib.asynccontextmanager
async def egress_to(*servers: TestServer, host: str = "127.0.0.1") -> AsyncIterator[EgressClient]:
    allowed = tuple(f"{host}:{server.port}" for server in servers)
    async with open_egress(EgressSettings(allowed_hosts=allowed)) as client:
        yield client


@pytest_asyncio.fixture
async def client() -> AsyncIterator[EgressClient]:
    async with open_egress(EgressSettings()) as opened:
        yield opened


@pytest.mark.parametrize("url", SPELLINGS)
async def test_every_spelling_of_an_inner_address_is_refused(
    client: EgressClient, url: str
) -> None:
    """S-38, S-39."""
    with pytest.raises(EgressRefused) as refused:
        await client.fetch("GET", url)
    assert refused.value.reason == "EGRESS_REFUSED"


@pytest.mark.parametrize("url", SPELLINGS)
async def test_nothing_is_posted_to_an_inner_address(client: EgressClient, url: str) -> None:
    """S-38, for what is told to webhooks."""
    with pytest.raises(EgressRefused):
        await client.post_once(url, headers={}, body=b"{}", timeout_seconds=5)


@pytest.mark.parametrize("url", MALFORMED)
async def test_a_url_of_another_form_is_refused(client: EgressClient, url: str) -> None:
    with pytest.raises(EgressRefused):
        await client.fetch("GET", url)
    with pytest.raises(EgressRefused):
        client.check(url)


async def test_a_post_once_follows_no_redirect_and_reads_no_answer() -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return web.Response(
            status=307, headers={"location": "/other"}, body=b"x" * (MAX_BODY_BYTES + 1)
        )

    async with serving(handler) as server, egress_to(server) as client:
        receipt = await client.post_once(
            str(server.make_url("/hook")), headers={}, body=b"{}", timeout_seconds=5
        )
    assert (receipt.status, receipt.headers["location"]) == (307, "/other")
    assert asked == ["/hook"]


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"],
        ["93.184.216.34", "127.0.0.1"],
        ["::1"],
        ["fd00::1"],
        ["64:ff9b::a00:1"],
        ["2606:4700::1111", "169.254.169.254"],
    ],
)
async def test_a_name_with_one_inner_answer_is_refused_whole(answers: list[str]) -> None:
    """S-40."""
    asked: list[str] = []

    async def resolve(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return answers

    async with open_egress(EgressSettings(), resolve=resolve) as client:
        with pytest.raises(EgressRefused):
            await client.fetch("GET", "http://rebind.example/")
    assert asked == ["rebind.example"]


async def test_a_name_is_resolved_once_for_check_and_use() -> None:
    """S-40: the second answer of a rebinding server is never asked for."""

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async with serving(hello) as server:
        answers = iter([["127.0.0.1"], ["10.0.0.1"]])

        async def resolve(_host: str, _port: int) -> Sequence[str]:
            return next(answers)

        settings = EgressSettings(allowed_hosts=(f"name.example:{server.port}",))
        async with open_egress(settings, resolve=resolve) as client:
            response = await client.fetch("GET", f"http://name.example:{server.port}/")
    assert response.body == b"hello"
    assert next(answers) == ["10.0.0.1"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:1/",
        "http://localhost/",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "ftp://example.com/",
        "gopher://127.0.0.1/",
        "data:text/html,hi",
        "//127.0.0.1:2/",
        "http://user:pass@127.0.0.1/",
        "http://[::1]/",
    ],
)
async def test_a_redirect_to_an_inner_address_is_refused(status: int, location: str) -> None:
    """S-41."""

    async def redirect(_request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": location})

    async with serving(redirect) as server, egress_to(server) as client:
        with pytest.raises(EgressRefused):
            await client.fetch("GET", str(server.make_url("/")))


async def test_a_fourth_redirect_is_refused() -> None:
    seen: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response(status=302, headers={"Location": f"/{len(seen)}"})

    async with serving(redirect) as server, egress_to(server) as client:
        with pytest.raises(EgressRefused):
            await client.fetch("GET", str(server.make_url("/0")))
    assert seen == ["/0", "/1", "/2", "/3"]


async def test_credentials_stay_on_their_own_host() -> None:
    received: list[dict[str, str]] = []

    async def target(request: web.Request) -> web.Response:
        received.append({name.lower(): value for name, value in request.headers.items()})
        return web.Response(text="there")

    async with serving(target) as other:

        async def redirect(request: web.Request) -> web.Response:
            if request.path == "/same":
                return await target(request)
            place = "/same" if request.path == "/here" else str(other.make_url("/"))
            return web.Response(status=307, headers={"Location": place})

        headers = {"Authorization": "Bearer x", "X-Api-Key": "y", "Cookie": "z", "Accept": "a/b"}
        async with serving(redirect) as server, egress_to(server, other) as client:
            for path in ("/here", "/there"):
                await client.fetch("GET", str(server.make_url(path)), headers=headers)
    same, changed = received
    assert {"authorization", "x-api-key", "cookie"} <= same.keys()
    assert not {"authorization", "x-api-key", "cookie"} & changed.keys()
    assert changed["accept"] == "a/b"


async def test_a_post_that_is_told_to_see_other_becomes_a_get_without_body() -> None:
    async def see_other(request: web.Request) -> web.Response:
        if request.path == "/":
            return web.Response(status=303, headers={"Location": "/other"})
        return web.Response(text=f"{request.method} {(await request.read()).decode()}|")

    async with serving(see_other) as server, egress_to(server) as client:
        response = await client.fetch("POST", str(server.make_url("/")), body=b"secret")
    assert response.body == b"GET |"
    assert response.url.endswith("/other")


@pytest.mark.parametrize("coding", ["identity", "gzip", "deflate"])
async def test_a_body_up_to_the_limit_arrives_whole(coding: str) -> None:
    text = b"".join(b"%d " % number for number in range(20000))
    packed = {"identity": text, "gzip": gzip.compress(text), "deflate": zlib.compress(text)}[coding]

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=packed, headers={"Content-Encoding": coding})

    async with serving(answer) as server, egress_to(server) as client:
        url = str(server.make_url("/"))
        assert (await client.fetch("GET", url, max_bytes=len(text))).body == text
        with pytest.raises(EgressTooLarge):
            await client.fetch("GET", url, max_bytes=len(text) - 1)


async def test_an_endless_body_is_cut_off_at_the_limit() -> None:
    """S-43: the peer is disconnected, not read to its end."""
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"x" * 65536)
                sent += 65536
        return response

    async with serving(endless) as server, egress_to(server) as client:
        with pytest.raises(EgressTooLarge):
            await client.fetch("GET", str(server.make_url("/")), max_bytes=10**9)
    assert sent < 3 * MAX_BODY_BYTES


async def test_a_compression_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b"\0" * (9 * 1024 * 1024))

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    async with serving(answer) as server, egress_to(server) as client:
        with pytest.raises(EgressTooLarge):
            await client.fetch("GET", str(server.make_url("/")))


async def raw_answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes
) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(data)
    with contextlib.suppress(ConnectionError):
        await writer.drain()
    writer.close()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 65 + b"Content-Length: 0\r\n\r\n", EgressFailed),
        (b"HTTP/1.1 200 OK\r\nX-Big: " + b"a" * 20000 + b"\r\n\r\n", EgressFailed),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", EgressFailed),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx", EgressFailed),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", EgressFailed),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"
            + gzip.compress(b"text", mtime=0)[:-9],
            EgressFailed,
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", EgressFailed),
        (b"", EgressFailed),
    ],
)
async def test_an_answer_that_is_not_proper_http_fails(data: bytes, error: type[Exception]) -> None:
    server = await asyncio.start_server(lambda r, w: raw_answer(r, w, data), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        settings = EgressSettings(allowed_hosts=(f"127.0.0.1:{port}",))
        async with open_egress(settings) as client:
            with pytest.raises(error):
                await client.fetch("GET", f"http://127.0.0.1:{port}/")


async def test_a_slow_answer_is_given_up() -> None:
    async def never(_request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    async with serving(never) as server, egress_to(server) as client:
        with pytest.raises(EgressTimeout):
            await client.fetch("GET", str(server.make_url("/")), timeout_seconds=0.05)


async def test_an_absent_host_fails_and_is_not_refused(client: EgressClient) -> None:
    with pytest.raises(EgressFailed):
        await client.fetch("GET", "http://does-not-exist.invalid/")
