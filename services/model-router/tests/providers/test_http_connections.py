"""Connections of the HTTP client: kept, shared, refused, and never used for two at once."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from meshwright_common.identity.certificates import new_authority
from meshwright_common.testing.told_server import CHUNKED, OK, Served, answering, serving
from meshwright_common.testing.waiting import eventually
from meshwright_model_router.providers.http_client import client as client_module
from meshwright_model_router.providers.http_client.answer import Answer
from meshwright_model_router.providers.http_client.client import Client
from meshwright_model_router.providers.http_client.errors import (
    AddressRefused,
    ConnectTimeout,
    Disconnected,
    HeadTimeout,
)

pytestmark = pytest.mark.asyncio


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
        await eventually(lambda: server.closed == 1)
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
                await eventually(partial(_longer_than, done, count))
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
        await eventually(lambda: server.closed == 1)


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
        await eventually(lambda: client.idle_connections(server.url) == 1)
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
        await eventually(lambda: gone == 1)
        assert client.idle_connections(server.url) == 0


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
