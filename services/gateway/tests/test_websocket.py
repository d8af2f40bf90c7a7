"""The WebSocket: many conversations, their limits, their ends (features.md G3, G4)."""

import asyncio
from typing import Final

import pytest

from meshwright.chat.v1 import turn_pb2
from meshwright.orchestrator.v1 import task_pb2
from meshwright_common.errors import Unavailable
from meshwright_common.ids import new_id
from services.gateway.tests.peers import Script, numbered, turn_events
from services.gateway.tests.platform import Platform, running
from services.gateway.tests.sockets import (
    names,
    opened,
    places_taken,
    waiting_before,
)

pytestmark = pytest.mark.asyncio


async def test_a_turn_is_told_as_its_stream_tells_it(platform: Platform) -> None:
    async with opened(platform) as socket:
        await socket.send(type="chat", id="c1", message="a b", idempotency_key="k")
        told = await socket.until_end("c1")

    assert names(told) == [
        "turn.started",
        "message.delta",
        "message.delta",
        "citation",
        "turn.completed",
        "end",
    ]
    assert [one["sequence"] for one in told[:-1]] == [1, 2, 3, 4, 5]
    assert told[1]["data"] == {"text": "a"}
    assert told[4]["data"]["answer"] == "a b"
    (request,) = platform.peers.chat.requests
    assert (request.message, request.request_id) == ("a b", "k")
    assert platform.peers.chat.callers[0].subject == platform.caller.subject


async def test_conversations_go_on_beside_each_other(platform: Platform) -> None:
    gate = asyncio.Event()
    waiting_before(3, gate, platform)
    async with opened(platform) as socket:
        await socket.send(type="chat", id="slow", message="a")
        assert (await socket.receive())["id"] == "slow"
        platform.peers.chat.script = lambda turn_id, _: Script(turn_events(turn_id, "x"))
        await socket.send(type="chat", id="fast", message="a")
        assert names(await socket.until_end("fast"))[-1] == "end"
        gate.set()
        assert names(await socket.until_end("slow"))[-2:] == ["turn.completed", "end"]


async def test_a_turn_is_followed_after_an_event(platform: Platform) -> None:
    turn_id = platform.peers.chat.add_turn(lambda turn_id: Script(turn_events(turn_id, "a", "b")))
    async with opened(platform) as socket:
        await socket.send(type="resume", id="r", turn_id=turn_id, after=3)
        told = await socket.until_end("r")
        await socket.send(type="resume", id="none", turn_id=new_id(), after=0)
        (unknown,) = await socket.until_end("none")

    assert [one["sequence"] for one in told[:-1]] == [4, 5]
    assert unknown["problem"]["code"] == "TURN_NOT_FOUND"
    assert unknown["problem"]["status"] == 404


async def test_a_task_is_run_and_its_reasoning_never_half_seen(platform: Platform) -> None:
    platform.peers.agents.events = [
        task_pb2.TaskEvent(chunk=task_pb2.TaskChunk(text="t", reasoning="r")),
        task_pb2.TaskEvent(final=task_pb2.TaskFinal(answer="done")),
    ]
    async with opened(platform) as socket:
        await socket.send(type="task", id="t1", agent="chat", message="a")
        told = await socket.until_end("t1")

    assert names(told) == ["reasoning.delta", "message.delta", "task.completed", "end"]
    assert [one["sequence"] for one in told[:-1]] == [None, 1, 2]


async def test_answers_and_cancels_end_with_what_they_came_to(platform: Platform) -> None:
    task_id, interrupt_id, turn_id = new_id(), new_id(), new_id()
    async with opened(platform) as socket:
        await socket.send(
            type="answer",
            id="a",
            task_id=task_id,
            interrupt_id=interrupt_id,
            answer={"approved": True},
            idempotency_key="k",
        )
        (answered,) = await socket.until_end("a")
        await socket.send(type="cancel", id="c", turn_id=turn_id)
        (cancelled,) = await socket.until_end("c")

    (request,) = platform.peers.agents.requests
    assert (request.task_id, request.interrupt_id, request.request_id) == (
        task_id,
        interrupt_id,
        "k",
    )
    assert answered["data"]["task_id"] == platform.peers.agents.task.task_id
    assert platform.peers.chat.cancelled == [turn_id]
    assert cancelled["data"]["state"] == "cancelled"


async def test_notifications_are_followed_until_they_are_left(platform: Platform) -> None:
    told = platform.peers.notifications.tell("It is done.")
    async with opened(platform) as socket:
        await socket.send(type="notifications", id="n")
        event = await socket.receive()
        await socket.send(type="leave", id="n")
        (end,) = await socket.until_end("n")

    assert event["event"] == "notification"
    assert event["data"]["notification_id"] == told.notification_id
    assert end == {"type": "end", "id": "n"}


WRONG: Final = (
    ("{", None, None),
    ("[]", None, None),
    ('{"type":"chat","id":"c","message":""}', "c", "message"),
    ('{"type":"chat","id":"c","message":"a","stream":true}', "c", "stream"),
    ('{"type":"chat","id":"c","message":"a","colour":1}', "c", "colour"),
    ('{"type":"chat","id":"c","message":"a","window":0}', "c", "window"),
    ('{"type":"chat","id":7,"message":"a"}', None, "id"),
    ('{"type":"chat","message":"a"}', None, "id"),
    ('{"type":"shout","id":"c"}', "c", "type"),
    ('{"type":["chat"],"id":"c"}', "c", "type"),
    ('{"id":"c"}', "c", "type"),
    ('{"type":"task","id":"c","message":"a"}', "c", "agent"),
    ('{"type":"answer","id":"c","task_id":"x"}', "c", "interrupt_id"),
    ('{"type":"resume","id":"c","task_id":"x"}', "c", "task_id"),
    ('{"type":"resume","id":"c","turn_id":"x","task_id":"x"}', "c", None),
    ('{"type":"ack","id":"c","sequence":"1"}', "c", "sequence"),
)
"""Messages, the conversation that they would have been, and the field that is wrong."""


async def test_wrong_messages_are_refused_by_name_and_the_socket_stays(platform: Platform) -> None:
    async with opened(platform) as socket:
        for text, conversation_id, field in WRONG:
            await socket.connection.send(text)
            refused = await socket.receive()
            assert (refused["type"], refused["id"]) == ("error", conversation_id), text
            named = {one["field"] for one in refused["problem"]["errors"]}
            assert field is None or field in named, text
        await socket.send(type="ping")
        assert await socket.receive() == {"type": "pong"}


async def test_a_conversation_is_neither_replaced_nor_one_too_many() -> None:
    async with running(websocket_conversations=2) as platform, opened(platform) as socket:
        waiting_before(2, asyncio.Event(), platform)
        for name in ("one", "two"):
            await socket.send(type="chat", id=name, message="a")
            await socket.receive()
        await socket.send(type="chat", id="one", message="a")
        twin = await socket.receive()
        await socket.send(type="chat", id="three", message="a")
        third = await socket.receive()

        assert (twin["id"], twin["problem"]["errors"][0]["field"]) == (None, "id")
        assert third["problem"]["status"] == 429
        assert "2 conversations" in third["problem"]["detail"]
        assert len(platform.peers.chat.requests) == 2


async def test_messages_count_as_the_requests_they_stand_for() -> None:
    routes = {"chat": {"per_minute": 1, "paths": ["POST /api/v1/chat"]}}
    async with running(limits={"routes": routes}) as platform, opened(platform) as socket:
        await socket.send(type="chat", id="one", message="a")
        assert names(await socket.until_end("one"))[-1] == "end"
        await socket.send(type="chat", id="two", message="a")
        (refused,) = await socket.until_end("two")

        assert refused["problem"]["status"] == 429
        assert refused["problem"]["retry_after_ms"] > 0
        assert (await platform.post("/api/v1/chat", {"message": "a"})).status == 429
        assert places_taken(platform) == 0


async def test_a_turn_that_waits_for_a_person_keeps_no_place(platform: Platform) -> None:
    gate = asyncio.Event()
    asks = turn_pb2.TurnEvent(interrupt=turn_pb2.Interrupt(interrupt_id=new_id()))
    end = turn_pb2.TurnEvent(completed=turn_pb2.TurnCompleted(answer="x"))
    platform.peers.chat.script = lambda turn_id, _: Script(
        numbered(turn_id, [asks, end]), waits_before={2: gate}
    )
    async with opened(platform) as socket:
        await socket.send(type="chat", id="c", message="a")
        assert (await socket.receive())["event"] == "interrupt"
        assert places_taken(platform) == 0
        assert platform.gateway.limits.load.running == 0
        gate.set()
        assert names(await socket.until_end("c"))[-1] == "end"


async def test_no_more_is_sent_than_the_window_until_it_is_acknowledged(
    platform: Platform,
) -> None:
    async with opened(platform) as socket:
        await socket.send(type="chat", id="c", message="a b c d e", window=2)
        assert [(await socket.receive())["sequence"] for _ in range(2)] == [1, 2]
        await socket.send(type="ack", id="c", sequence=9)
        beyond = await socket.receive()
        await socket.send(type="ping")
        assert await socket.receive() == {"type": "pong"}
        for sequence in (2, 4, 6):
            await socket.send(type="ack", id="c", sequence=sequence)
            seen = [(await socket.receive())["sequence"] for _ in range(2)]
            assert seen == [sequence + 1, sequence + 2]
    assert (beyond["id"], beyond["problem"]["errors"][0]["field"]) == (None, "sequence")


async def test_a_peer_that_is_away_ends_its_conversation_alone(platform: Platform) -> None:
    platform.peers.chat.error = Unavailable("away")
    async with opened(platform) as socket:
        await socket.send(type="chat", id="c", message="a")
        (ended,) = await socket.until_end("c")
        await socket.send(type="ping")
        assert await socket.receive() == {"type": "pong"}

    assert ended["problem"]["code"] == "UNAVAILABLE"
