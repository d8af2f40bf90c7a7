"""Clients that leave, clients that do not read, and a gateway that stops."""

import asyncio

import pytest

from meshwright.chat.v1 import turn_pb2
from meshwright_common.errors import FailedPrecondition
from meshwright_common.testing.waiting import eventually
from services.gateway.tests.events import parse, read_events
from services.gateway.tests.peers import Script, numbered, turn_events
from services.gateway.tests.platform import Platform, running

pytestmark = pytest.mark.asyncio


def waiting_before(sequence: int, gate: asyncio.Event, platform: Platform) -> None:
    """Let every turn wait for `gate` before its event of this sequence."""
    platform.peers.chat.script = lambda turn_id, _: Script(
        turn_events(turn_id, "a", "b"), waits_before={sequence: gate}
    )


async def test_a_client_that_leaves_ends_its_subscription_only(platform: Platform) -> None:
    waiting_before(3, asyncio.Event(), platform)
    answer = await platform.http.post(
        f"{platform.url}/api/v1/chat", json={"message": "a"}, headers=platform.headers
    )
    await anext(read_events(answer))
    chat = platform.peers.chat
    assert chat.open_streams == 1

    answer.close()

    await eventually(lambda: chat.open_streams == 0)
    assert chat.cancelled == []


@pytest.mark.parametrize("stream", [True, False])
async def test_leaving_cancels_the_turn_when_asked_to(platform: Platform, stream: bool) -> None:
    """R-14, on_disconnect: cancel."""
    waiting_before(3, asyncio.Event(), platform)
    body = {"message": "a", "stream": stream, "on_disconnect": "cancel"}
    request = asyncio.ensure_future(
        platform.http.post(f"{platform.url}/api/v1/chat", json=body, headers=platform.headers)
    )
    chat = platform.peers.chat
    await eventually(lambda: chat.open_streams == 1)

    if stream:
        (await request).close()
    else:
        request.cancel()

    await eventually(lambda: len(chat.cancelled) == 1)
    assert chat.open_streams == 0


async def test_leaving_before_the_turn_is_known_still_cancels_it(platform: Platform) -> None:
    gate = asyncio.Event()
    waiting_before(1, gate, platform)
    body = {"message": "a", "on_disconnect": "cancel"}
    request = asyncio.ensure_future(
        platform.http.post(f"{platform.url}/api/v1/chat", json=body, headers=platform.headers)
    )
    chat = platform.peers.chat
    await eventually(lambda: chat.open_streams == 1)
    request.cancel()
    await eventually(lambda: platform.gateway.server.connection_count == 0)

    gate.set()

    await eventually(lambda: len(chat.cancelled) == 1)


async def test_leaving_a_completion_ends_the_generation(platform: Platform) -> None:
    platform.peers.models.endless = True
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
    answer = await platform.http.post(
        f"{platform.url}/v1/chat/completions", json=body, headers=platform.headers
    )
    await answer.content.readline()

    answer.close()

    await eventually(lambda: platform.peers.models.open_streams == 0)


async def test_leaving_ends_what_is_of_no_use_to_others(platform: Platform) -> None:
    """R-14: also where the answer comes in one piece."""
    platform.peers.models.gate = asyncio.Event()
    request = asyncio.ensure_future(platform.post("/v1/embeddings", {"model": "m", "input": "x"}))
    await eventually(lambda: platform.peers.models.open_streams == 1)

    request.cancel()

    await eventually(lambda: platform.peers.models.open_streams == 0)
    await eventually(lambda: not platform.gateway.limits.requests._holders)


async def test_a_client_that_reads_nothing_piles_up_nothing_and_is_cut_off() -> None:
    """D3: what waits for a slow reader is bounded; after a while it is cut off."""
    async with running(slow_reader_seconds=1) as platform:
        platform.peers.models.endless = True
        reader, writer = await platform.raw()
        reader._transport.pause_reading()  # type: ignore[attr-defined] # the only way not to read
        body = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}'
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer {platform.key}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        models = platform.peers.models
        await eventually(lambda: models.open_streams == 1)

        await eventually(lambda: models.open_streams == 0)

        # What the two sockets of the kernel hold, and next to nothing beside it.
        assert models.produced_bytes < 16 * 1024 * 1024
        await eventually(lambda: platform.gateway.server.connection_count == 0)
        writer.transport.abort()


async def test_a_quiet_stream_shows_that_it_lives() -> None:
    async with running(heartbeat_seconds=0.2) as platform:
        gate = asyncio.Event()
        waiting_before(3, gate, platform)
        answer = await platform.http.post(
            f"{platform.url}/api/v1/chat", json={"message": "a"}, headers=platform.headers
        )

        while (await answer.content.readline()) != b": \n":
            pass
        gate.set()

        rest = await answer.content.read()
        assert parse(rest.decode())[-1].name == "turn.completed"


async def test_following_a_quiet_turn_opens_before_its_next_event(platform: Platform) -> None:
    gate = asyncio.Event()
    turn_id = platform.peers.chat.add_turn(
        lambda turn_id: Script(turn_events(turn_id, "a"), waits_before={2: gate})
    )

    answer = await platform.http.get(
        f"{platform.url}/api/v1/turns/{turn_id}/events",
        headers={**platform.headers, "last-event-id": f"{turn_id}:1"},
    )

    assert answer.status == 200
    gate.set()
    assert [event.sequence for event in parse((await answer.read()).decode())] == [2, 3, 4]


async def test_a_revoked_key_ends_its_open_streams() -> None:
    """R-23, S-67: with a reason, and within the time for it."""
    async with running(recheck_seconds=0.1, key_cache_seconds=0) as platform:
        waiting_before(3, asyncio.Event(), platform)
        answer = await platform.http.post(
            f"{platform.url}/api/v1/chat", json={"message": "a"}, headers=platform.headers
        )
        events = read_events(answer)
        await anext(events)

        platform.peers.directory.revoke(platform.key)

        last = [event async for event in events][-1]
        assert (last.name, last.data["code"]) == ("error", "UNAUTHENTICATED")


@pytest.mark.parametrize("credential", ["key", "token"])
async def test_rights_taken_away_end_open_streams(credential: str) -> None:
    """R-23: whoever connects again gets what is left."""
    async with running(recheck_seconds=0.1, key_cache_seconds=0) as platform:
        waiting_before(3, asyncio.Event(), platform)
        token = platform.served.token(platform.caller)
        bearer = {"authorization": f"Bearer {token}"} if credential == "token" else {}
        answer = await platform.http.post(
            f"{platform.url}/api/v1/chat",
            json={"message": "a"},
            headers={**platform.headers, **bearer},
        )
        events = read_events(answer)
        await anext(events)

        platform.peers.directory.narrow(platform.caller, "session:read")

        last = [event async for event in events][-1]
        assert (last.name, last.data["code"]) == ("error", "UNAUTHENTICATED")


async def test_a_suspended_tenants_open_streams_end_with_that_reason() -> None:
    """R-23."""
    async with running(recheck_seconds=0.1, key_cache_seconds=0) as platform:
        waiting_before(3, asyncio.Event(), platform)
        answer = await platform.http.post(
            f"{platform.url}/api/v1/chat", json={"message": "a"}, headers=platform.headers
        )
        events = read_events(answer)
        await anext(events)

        suspended = FailedPrecondition("the tenant is suspended")
        suspended.reason = "TENANT_SUSPENDED"
        platform.peers.directory.error = suspended

        last = [event async for event in events][-1]
        assert (last.name, last.data["code"]) == ("error", "TENANT_SUSPENDED")


async def test_draining_lets_answers_end_and_tells_the_others() -> None:
    async with running(drain_seconds=0.3) as platform:
        gate = asyncio.Event()
        waiting_before(3, gate, platform)
        answer = await platform.http.post(
            f"{platform.url}/api/v1/chat", json={"message": "a"}, headers=platform.headers
        )
        app = platform.gateway.app(platform.settings)
        assert app.drain is not None
        assert app.leave is not None

        app.leave()
        leaving = await platform.get("/health/ready")
        await app.drain()

        assert leaving.status == 503
        last = parse((await answer.read()).decode())[-1]
        assert (last.name, last.data["code"]) == ("error", "UNAVAILABLE")
        refused = await platform.post("/api/v1/chat", {"message": "a"})
        assert refused.status == 503
        assert refused.headers["retry-after"] == "1"
        assert (await platform.get("/health/live")).status == 200


async def test_draining_waits_for_answers_under_way(platform: Platform) -> None:
    gate = asyncio.Event()
    waiting_before(3, gate, platform)
    answer = await platform.http.post(
        f"{platform.url}/api/v1/chat", json={"message": "a"}, headers=platform.headers
    )
    app = platform.gateway.app(platform.settings)
    assert app.drain is not None
    draining = asyncio.ensure_future(app.drain())
    gate.set()

    await draining

    assert parse((await answer.read()).decode())[-1].name == "turn.completed"


async def test_a_long_answer_comes_through_a_slow_reader_whole(platform: Platform) -> None:
    """A reader that pauses gets every word, in order; what waited for it may come together."""
    texts = [f"{number:06d}" * 50 for number in range(4000)]
    deltas = [turn_pb2.TurnEvent(message_delta=turn_pb2.MessageDelta(text=text)) for text in texts]
    end = turn_pb2.TurnEvent(completed=turn_pb2.TurnCompleted(answer="x"))
    platform.peers.chat.script = lambda turn_id, _: Script(numbered(turn_id, [*deltas, end]))
    answer = await platform.http.post(
        f"{platform.url}/api/v1/chat", json={"message": "a"}, headers=platform.headers
    )

    seen: list[str] = []
    sequences: list[int] = []
    async for event in read_events(answer):
        sequences.append(event.sequence)
        if event.name == "message.delta":
            seen.append(event.data["text"])
        if len(seen) % 1000 == 0:
            await asyncio.sleep(0.05)

    assert "".join(seen) == "".join(texts)
    # Who comes back after any of these goes on where the text ended.
    assert sequences == sorted(set(sequences))
    assert sequences[-1] == len(texts) + 1
