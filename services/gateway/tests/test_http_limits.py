"""The server under clients that break HTTP or take their time."""

import asyncio
import socket

import orjson
import pytest

from meshwright_common.settings import SettingsError
from meshwright_gateway.server.serving import open_listener
from services.gateway.tests.platform import Platform, running

pytestmark = pytest.mark.asyncio

GET = b"GET /health/live HTTP/1.1\r\nhost: x\r\n"


async def answer_to(platform: Platform, *pieces: bytes) -> bytes:
    """Send bytes and return all that comes until the server closes."""
    reader, writer = await platform.raw()
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (GET + b"a: " + b"x" * 17_000 + b"\r\n\r\n", b"431"),
        (GET + b"".join(b"h%d: x\r\n" % number for number in range(200)) + b"\r\n", b"431"),
        (b"GET /" + b"x" * 17_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", b"414"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9\r\nhost: x\r\n\r\n", b"400"),
        (GET + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (GET + b"content-length: 1\r\ncontent-length: 2\r\n\r\nx", b"400"),
        (GET + b"content-length: -1\r\n\r\n", b"400"),
        (GET + b"transfer-encoding: chunked\r\n\r\nZZ\r\n", b"400"),
        (GET + b" folded: x\r\n\r\n", b"400"),
        (GET + b"host: y\r\nconnection: close\r\n\r\n", b"400"),
    ],
    ids=[
        *("header-long", "headers-many", "path-long", "nonsense", "version", "length-and-chunked"),
        *("two-lengths", "negative-length", "bad-chunk", "folded", "two-hosts"),
    ],
)
async def test_broken_http_is_refused_and_closed(
    platform: Platform, request_bytes: bytes, status: bytes
) -> None:
    """S-37c, S-37e."""
    answer = await answer_to(platform, request_bytes)

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == status
    assert b"application/problem+json" in head
    assert orjson.loads(body)["status"] == int(status)


async def test_headers_in_drips_are_counted_together(platform: Platform) -> None:
    drips = [b"a%d: " % number + b"x" * 1000 + b"\r\n" for number in range(40)]

    answer = await answer_to(platform, GET, *drips)

    assert b" 431 " in answer


@pytest.mark.parametrize(
    "start", [b"", b"GET", GET, GET + b"\r\n" + b"GET /health/li"], ids=["", "word", "half", "2nd"]
)
async def test_headers_that_do_not_come_are_waited_for_only_so_long(start: bytes) -> None:
    """F-48, slowloris."""
    async with running(header_timeout_seconds=0.2) as platform:
        answer = await answer_to(platform, start)

        assert b" 408 " in answer


async def test_a_body_that_drips_is_cut_off() -> None:
    """F-48, slow POST: slower than the least rate."""
    async with running(body_timeout_seconds=0.3) as platform:
        head = (
            f"POST /api/v1/chat HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {platform.key}\r\n"
            "content-type: application/json\r\ncontent-length: 1000\r\nconnection: close\r\n\r\n"
        )

        answer = await answer_to(platform, head.encode() + b'{"mess')

        assert b" 408 " in answer
        assert b"within 0.3 seconds" in answer


async def test_an_upload_below_the_least_rate_is_cut_off() -> None:
    async with running(body_min_bytes_per_second=10_000) as platform:
        head = (
            "POST /api/v1/knowledge-bases/default/documents HTTP/1.1\r\nhost: x\r\n"
            f"authorization: Bearer {platform.key}\r\ncontent-length: 1000000\r\n"
            "content-type: multipart/form-data; boundary=b\r\n\r\n"
            '--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
        )

        async with asyncio.timeout(15):
            answer = await answer_to(platform, head.encode())

        assert b" 408 " in answer
        assert platform.peers.knowledge.sizes == []


async def test_an_idle_connection_is_closed() -> None:
    async with running(keep_alive_seconds=1) as platform:
        answer = await answer_to(platform, GET + b"\r\n")

        assert b" 200 " in answer


async def test_one_connection_serves_many_requests(platform: Platform) -> None:
    answer = await answer_to(platform, (GET + b"\r\n") * 3 + GET + b"connection: close\r\n\r\n")

    assert answer.count(b"HTTP/1.1 200 ") == 4


async def test_more_connections_than_allowed_are_refused() -> None:
    async with running(max_connections=1) as platform:
        _, first = await platform.raw()

        answer = await answer_to(platform, b"")

        assert b" 503 " in answer
        first.close()


async def test_a_taken_port_is_named_with_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(SettingsError, match=f"MESHWRIGHT_GATEWAY__PORT: .*127.0.0.1:{port}"):
            open_listener("127.0.0.1", port)


async def test_a_host_of_another_machine_is_named_with_its_setting() -> None:
    with pytest.raises(SettingsError, match="MESHWRIGHT_GATEWAY__"):
        open_listener("host.invalid", 8080)
