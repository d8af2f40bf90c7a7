"""How WebSockets open and end: handshakes, keys, silence, slow readers, a gateway that stops."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.frames import Frame, Opcode

from meshwright.chat.v1 import turn_pb2
from meshwright_common.testing.waiting import eventually
from services.gateway.tests.peers import Script, numbered
from services.gateway.tests.platform import Platform, running
from services.gateway.tests.sockets import (
    PATH,
    Socket,
    names,
    opened,
    places_taken,
    waiting_before,
)

pytestmark = pytest.mark.asyncio


async def closed(socket: Socket) -> tuple[int, str]:
    """Return the code and the reason with which the gateway closed."""
    with contextlib.suppress(ConnectionClosedError):
        async for _ in socket.connection:
            pass
    await socket.connection.wait_closed()
    code = socket.connection.close_code
    assert code is not None
    return code, socket.connection.close_reason or ""


async def sequences(socket: Socket) -> AsyncIterator[int]:
    """Yield the sequences of all events that come before the gateway closes."""
    with contextlib.suppress(ConnectionClosedError):
        async for text in socket.connection:
            yield orjson.loads(text)["sequence"]


async def test_what_comes_with_the_handshake_is_not_lost(platform: Platform) -> None:
    reader, writer = await platform.raw()
    head = (
        f"GET {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {platform.key}\r\n"
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    frame = Frame(Opcode.TEXT, b'{"type":"ping"}').serialize(mask=True)
    # The accept value is RFC 6455's own example, of section 1.3.
    writer.write(head.encode() + frame)

    answer = await reader.readuntil(b"\r\n\r\n")
    pong = Frame(Opcode.TEXT, b'{"type":"pong"}').serialize(mask=False)
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer
    assert await reader.readexactly(len(pong)) == pong
    writer.close()


async def test_an_unmasked_frame_and_broken_text_close_with_their_codes(
    platform: Platform,
) -> None:
    for frame, code in (
        (Frame(Opcode.TEXT, b"{}").serialize(mask=False), 1002),
        (Frame(Opcode.TEXT, b"\xff").serialize(mask=True), 1007),
    ):
        async with opened(platform) as socket:
            socket.connection.transport.write(frame)
            assert (await closed(socket))[0] == code


async def test_a_stopping_gateway_says_where_to_go_on(platform: Platform) -> None:
    waiting_before(3, asyncio.Event(), platform)
    async with opened(platform) as socket:
        await socket.send(type="chat", id="c", message="a")
        told = [await socket.receive() for _ in range(2)]
        await socket.send(type="ack", id="c", sequence=1)
        note = platform.peers.notifications.tell("It is done.")
        await socket.send(type="notifications", id="n")
        await socket.receive()
        await socket.send(type="ping")
        await socket.receive()
        app = platform.gateway.app(platform.settings)
        assert app.drain is not None

        await app.drain()

        positions = [await socket.receive() for _ in range(2)]
        assert await closed(socket) == (1012, "UNAVAILABLE: the gateway is shutting down")
    turn_id = told[0]["data"]["turn_id"]
    assert positions == [
        {"type": "resume", "id": "c", "turn_id": turn_id, "after": 1},
        {"type": "notifications", "id": "n", "after_id": note.notification_id},
    ]
    assert platform.peers.chat.cancelled == []


async def test_a_revoked_key_closes_its_sockets() -> None:
    """R-23."""
    async with running(recheck_seconds=0.1, key_cache_seconds=0) as platform:
        waiting_before(2, asyncio.Event(), platform)
        async with opened(platform) as socket:
            await socket.send(type="chat", id="c", message="a")
            await socket.receive()

            platform.peers.directory.revoke(platform.key)

            assert (await socket.receive())["problem"]["code"] == "UNAUTHENTICATED"
            assert (await closed(socket))[0] == 1008
        await eventually(lambda: platform.peers.chat.open_streams == 0)


async def test_leaving_ends_what_was_followed_only(platform: Platform) -> None:
    waiting_before(3, asyncio.Event(), platform)
    async with opened(platform) as socket:
        await socket.send(type="chat", id="c", message="a")
        await socket.receive()
        assert platform.gateway.answers.count == 1

    await eventually(lambda: platform.peers.chat.open_streams == 0)
    await eventually(lambda: platform.gateway.answers.count == 0)
    assert platform.peers.chat.cancelled == []
    assert places_taken(platform) == 0
    assert platform.gateway.limits.load.running == 0


@pytest.mark.parametrize("fragments", [1, 3])
async def test_a_message_over_the_limit_closes_with_its_code(fragments: int) -> None:
    async with running(websocket_message_bytes=1024) as platform, opened(platform) as socket:
        pieces = ["x" * (1200 // fragments)] * fragments
        await socket.connection.send(pieces)

        assert (await closed(socket))[0] == 1009


async def test_fragments_are_one_message_and_bytes_are_none(platform: Platform) -> None:
    async with opened(platform) as socket:
        await socket.connection.send(['{"type":', '"pi', 'ng","id":"p"}'])
        assert await socket.receive() == {"type": "pong", "id": "p"}
        await socket.connection.send(b"{}")
        assert (await closed(socket))[0] == 1003


async def test_a_quiet_client_is_asked_and_a_silent_one_closed() -> None:
    async with running(
        heartbeat_seconds=0.1, websocket_ping_seconds=0.1, websocket_silence_seconds=0.5
    ) as platform:
        waiting_before(2, asyncio.Event(), platform)
        async with opened(platform, ping_interval=None) as socket:
            # The client's library answers pings by itself.
            began = asyncio.get_running_loop().time()
            await eventually(lambda: asyncio.get_running_loop().time() - began > 0.8)
            await socket.send(type="ping")
            assert await socket.receive() == {"type": "pong"}

            socket.connection.transport.pause_reading()  # so it hears no ping
            await eventually(lambda: platform.gateway.answers.count == 0)
            socket.connection.transport.resume_reading()
            assert (await closed(socket))[0] == 1001


async def test_who_does_not_read_holds_up_nobody_else_and_loses_nothing() -> None:
    """D3: what waits is bounded; it is closed in the end, and the rest is there to be resumed."""
    async with running(slow_reader_seconds=1) as platform:
        text = "x" * 20_000
        deltas = [turn_pb2.TurnEvent(message_delta=turn_pb2.MessageDelta(text=text))] * 1000
        end = turn_pb2.TurnEvent(completed=turn_pb2.TurnCompleted(answer="x"))
        turn_id = platform.peers.chat.add_turn(
            lambda turn_id: Script(
                numbered(
                    turn_id,
                    [
                        turn_pb2.TurnEvent.FromString(one.SerializeToString())
                        for one in [*deltas, end]
                    ],
                )
            )
        )
        async with opened(platform) as slow, opened(platform) as other:
            slow.connection.transport.pause_reading()
            await slow.send(type="resume", id="r", turn_id=turn_id, after=0)
            chat = platform.peers.chat
            await eventually(lambda: chat.open_streams == 1)
            await other.send(type="chat", id="c", message="a")
            assert names(await other.until_end("c"))[-1] == "end"

            await eventually(lambda: platform.gateway.answers.count == 1)
            await eventually(lambda: chat.open_streams == 0)

            slow.connection.transport.resume_reading()
            seen = [sequence async for sequence in sequences(slow)]
            # What the two sockets of the kernel hold, and next to nothing beside it.
            assert seen == list(range(1, len(seen) + 1))
            assert len(seen) < 1001
            assert slow.connection.close_code == 1013
            await other.send(type="resume", id="r", turn_id=turn_id, after=len(seen))
            told = await other.until_end("r")
            assert [one["sequence"] for one in told[:-1]] == list(range(len(seen) + 1, 1002))


async def test_a_page_brings_its_key_beside_the_protocol() -> None:
    origin = "https://app.example.com"
    async with running(cors_origins=(origin,)) as platform:
        offered = ["meshwright.v1", f"meshwright.key.{platform.key}"]
        options = {"subprotocols": offered, "additional_headers": {"origin": origin}}
        async with opened(platform, **options) as socket:
            assert socket.connection.subprotocol == "meshwright.v1"
            await socket.send(type="ping")
            assert await socket.receive() == {"type": "pong"}


NO_HANDSHAKES: Final[tuple[tuple[dict[str, str], int], ...]] = (
    ({}, 401),
    ({"sec-websocket-protocol": "meshwright.v1, meshwright.key.mw_wrong"}, 401),
    ({"origin": "https://evil.example"}, 403),
    ({"sec-websocket-version": "8"}, 400),
    ({"sec-websocket-key": "short"}, 400),
    ({"upgrade": "chat"}, 426),
)
"""Headers of requests that open no socket, and the status of the answer."""


async def test_what_is_no_handshake_is_answered_as_a_request(platform: Platform) -> None:
    handshake = {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    for headers, status in NO_HANDSHAKES:
        known = {} if status == 401 else platform.headers
        answer = await platform.http.get(
            platform.url + PATH, headers={**known, **handshake, **headers}
        )
        problem = await answer.json()
        assert (answer.status, problem["status"]) == (status, status), headers
        assert answer.headers["x-request-id"] == problem["request_id"]


async def test_a_plain_request_is_told_to_upgrade(platform: Platform) -> None:
    answer = await platform.get(PATH)

    assert answer.status == 426
    assert answer.headers["upgrade"] == "websocket"
    assert (await platform.post(PATH, {})).status == 405


async def test_a_stopping_gateway_opens_no_socket(platform: Platform) -> None:
    app = platform.gateway.app(platform.settings)
    assert app.drain is not None
    await app.drain()

    with pytest.raises(InvalidStatus) as refused:
        async with connect(
            platform.url.replace("http://", "ws://") + PATH,
            additional_headers=platform.headers,
            proxy=None,
        ):
            pass

    assert refused.value.response.status_code == 503
