"""Turns that wait, on the wire: named as they are, in a stream that stays and holds nobody up."""

import asyncio

import pytest

from meshwright.chat.v1 import chat_service_pb2, turn_pb2
from meshwright.orchestrator.v1 import task_pb2
from meshwright.types.v1 import message_pb2
from meshwright_common.ids import new_id
from meshwright_common.testing.waiting import eventually
from services.gateway.tests.events import Event, read_events
from services.gateway.tests.peers import Script, numbered, turn_events
from services.gateway.tests.platform import running
from services.gateway.tests.test_edge_limits import COMPLETION, limits

pytestmark = pytest.mark.asyncio

ASKED = turn_pb2.Interrupt(
    interrupt_id=new_id(),
    task_id=new_id(),
    kind=task_pb2.INTERRUPT_KIND_APPROVAL,
    question="Send it?",
    tool_call=message_pb2.ToolCall(id="1", name="send", arguments_json='{"to":"all"}'),
)


def waiting_script(turn_id: str, answered: asyncio.Event) -> Script:
    """A turn that is queued, begins, asks, and goes on when it is answered."""
    started, *rest = turn_events(turn_id, "Sent.")
    queued = turn_pb2.TurnEvent(
        queued=turn_pb2.TurnQueued(session_id=new_id(), position=2, running_turn_id=new_id())
    )
    events = numbered(turn_id, [queued, started, turn_pb2.TurnEvent(interrupt=ASKED), *rest])
    return Script(events, waits_before={4: answered})


async def test_a_waiting_turn_goes_on_in_its_stream_and_keeps_no_place() -> None:
    answered = asyncio.Event()
    tiers = {"enterprise": {"per_minute": 1000, "concurrent": 1}}
    async with running(**limits(tiers=tiers)) as platform:

        def script(turn_id: str, request: chat_service_pb2.StreamChatRequest) -> Script:
            return waiting_script(turn_id, answered)

        platform.peers.chat.script = script
        stream = await platform.http.post(
            f"{platform.url}/api/v1/chat", json={"message": "?"}, headers=platform.headers
        )
        events: list[Event] = []
        beside: list[int] = []
        async for event in read_events(stream):
            events.append(event)
            if event.name == "interrupt":
                await eventually(lambda: not platform.gateway.limits.requests._holders)
                beside.append((await platform.post("/v1/chat/completions", COMPLETION)).status)
                answered.set()
    assert beside == [200]
    names = [event.name for event in events]
    assert names[:3] == ["turn.queued", "turn.started", "interrupt"]
    assert names[-1] == "turn.completed"
    assert events[0].data["position"] == 2
    asked = events[2].data
    assert (asked["interrupt_id"], asked["task_id"]) == (ASKED.interrupt_id, ASKED.task_id)
    assert (asked["kind"], asked["question"]) == ("approval", "Send it?")
    assert asked["tool_call"]["arguments_json"] == '{"to":"all"}'
