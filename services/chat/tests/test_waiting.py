"""Turns that wait for a person: without a lease, without work, and on in the same stream."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from meshwright.chat.v1 import chat_service_pb2, turn_pb2
from meshwright.orchestrator.v1 import task_pb2
from meshwright.types.v1 import message_pb2
from meshwright_common.context import MESH_INTERNAL, CallContext, Principal, bind
from meshwright_common.errors import ServiceError
from meshwright_common.ids import new_id
from meshwright_common.storage.redis import open_redis
from meshwright_common.testing.waiting import eventually
from services.chat.tests.meeting_turns import Asked, said, state
from services.chat.tests.test_turns import WORDS, Mesh, mesh, resume
from services.chat.tests.told import kinds, text_of

__all__ = ["mesh"]

pytestmark = pytest.mark.asyncio


def an_approval() -> task_pb2.TaskInterrupt:
    asked = task_pb2.TaskInterrupt(
        interrupt_id=new_id(),
        kind=task_pb2.INTERRUPT_KIND_APPROVAL,
        question="Send it?",
        tool_call=message_pb2.ToolCall(id="call-1", name="send", arguments_json='{"to": "all"}'),
    )
    asked.answer_schema.update({"type": "object"})
    asked.expire_time.GetCurrentTime()
    return asked


@asynccontextmanager
async def a_waiting_turn(mesh: Mesh) -> AsyncIterator[tuple[Any, Asked]]:
    mesh.agents.asks = [an_approval()]
    async with mesh.process() as chat:
        asked = Asked(mesh, chat, chat_service_pb2.StreamChatRequest(message="may I?"))
        await asked.begun()

        async def waits() -> bool:
            return bool(turn_pb2.TURN_STATE_WAITING == (await state(chat, asked.turn_id)).state)

        await eventually(waits)
        yield chat, asked


async def test_a_waiting_turn_shows_what_it_waits_for_and_counts_for_no_quota(mesh: Mesh) -> None:
    async with a_waiting_turn(mesh) as (chat, asked):
        turn = await state(chat, asked.turn_id)
        service = Principal(mesh.caller.tenant_id, "session", "service", frozenset({MESH_INTERNAL}))
        with bind(CallContext(principal=service, request_id=new_id())):
            counted = await chat.CountRunningTurns(chat_service_pb2.CountRunningTurnsRequest())
        listed = await chat.ListTurns(chat_service_pb2.ListTurnsRequest(session_id=turn.session_id))
        asked.leave()
    (wanted,) = mesh.agents.asks
    (shown,) = turn.interrupts
    assert turn == listed.turns[0]
    assert (wanted.interrupt_id, "Send it?", "send") == (
        shown.interrupt_id,
        shown.question,
        shown.tool_call.name,
    )
    assert (turn.task_id, wanted.answer_schema) == (shown.task_id, shown.answer_schema)
    assert wanted.expire_time == shown.expire_time
    assert 0 == counted.running_turns


async def test_an_answered_turn_goes_on_in_the_stream_that_was_open(mesh: Mesh) -> None:
    """Nothing that was told is told again, and positions have no gap."""
    async with a_waiting_turn(mesh) as (chat, asked):
        mesh.agents.answered.set()
        events = await asked.end()
        whole = await resume(chat, asked.turn_id, 0)
    assert "restarted" not in kinds(events)
    assert 1 == kinds(events).count("interrupt")
    assert ("completed", "".join(WORDS)) == (kinds(events)[-1], text_of(events))
    assert list(range(1, len(events) + 1)) == [event.sequence for event in events]
    assert events == whole


async def test_a_reader_that_comes_back_to_a_waiting_turn_sees_the_rest(mesh: Mesh) -> None:
    async with a_waiting_turn(mesh) as (chat, asked):
        asked.leave()
        seen = asked.events
        after = seen[-1].sequence
        reading = asyncio.create_task(resume(chat, asked.turn_id, after))
        await asyncio.sleep(0)
        mesh.agents.answered.set()
        rest = await reading
    assert "".join(WORDS) == text_of(seen + rest)
    assert after + 1 == rest[0].sequence
    assert "interrupt" == kinds(seen)[-1]


async def test_a_turn_waits_over_a_restart_and_goes_on_with_nobody_watching(mesh: Mesh) -> None:
    async with a_waiting_turn(mesh) as (_, asked):
        asked.leave()
    executed = len(mesh.agents.executions)
    mesh.agents.answered.set()
    async with mesh.process() as chat:

        async def has_ended() -> bool:
            return bool((await state(chat, asked.turn_id)).HasField("end_time"))

        await eventually(has_ended)
        turn = await state(chat, asked.turn_id)
    assert (turn_pb2.TURN_STATE_COMPLETED, "".join(WORDS)) == (turn.state, turn.answer)
    assert (1, []) == (turn.attempt, list(turn.interrupts))
    # It was not run again: its task was followed from where it waited.
    assert executed == len(mesh.agents.executions)


async def test_a_turn_that_waits_is_left_alone(mesh: Mesh) -> None:
    """No lease is renewed, nobody takes it over, and its task is seldom looked at."""
    async with a_waiting_turn(mesh) as (chat, asked):
        asked.leave()
        looks = mesh.agents.looks

        async def looked_at() -> bool:
            return mesh.agents.looks > looks

        await eventually(looked_at)
        turn = await state(chat, asked.turn_id)
    assert (turn_pb2.TURN_STATE_WAITING, 1) == (turn.state, turn.attempt)
    assert 1 == len(mesh.agents.executions)


async def test_what_waits_is_told_again_when_the_journal_is_gone(mesh: Mesh) -> None:
    async with a_waiting_turn(mesh) as (chat, asked):
        asked.leave()
        async with open_redis(mesh.redis) as client:
            await client.flushall()
        reading = asyncio.create_task(resume(chat, asked.turn_id, 0))
        mesh.agents.answered.set()
        whole = await reading
    assert "started" in kinds(whole)
    assert ("completed", "".join(WORDS)) == (kinds(whole)[-1], text_of(whole))
    sequences = [event.sequence for event in whole]
    assert sorted(set(sequences)) == sequences


async def test_a_question_beside_a_waiting_turn_names_what_it_waits_for(mesh: Mesh) -> None:
    async with a_waiting_turn(mesh) as (chat, asked):
        session_id = asked.events[0].started.session_id
        request = chat_service_pb2.StreamChatRequest(session_id=session_id, message="and?")
        refused = Asked(mesh, chat, request)
        await refused.end()
        asked.leave()
    assert refused.error is not None
    assert "TURN_IN_PROGRESS" == refused.error.reason
    assert mesh.agents.asks[0].interrupt_id == refused.error.metadata["interrupt_id"]


@pytest.mark.parametrize("policy", ["INTERRUPT", "ROLLBACK"])
async def test_a_waiting_turn_is_interrupted_or_rolled_back_as_a_running_one(
    mesh: Mesh, policy: str
) -> None:
    half = "".join(WORDS[: len(WORDS) // 2])
    async with a_waiting_turn(mesh) as (chat, asked):
        session_id = asked.events[0].started.session_id
        mesh.agents.asks = []
        number = chat_service_pb2.ConcurrencyPolicy.Value(f"CONCURRENCY_POLICY_{policy}")
        request = chat_service_pb2.StreamChatRequest(
            session_id=session_id, message="instead?", concurrency=number
        )
        events = await Asked(mesh, chat, request).end()
        await asked.end()
    assert "completed" == kinds(events)[-1]
    assert "cancelled" == asked.kinds[-1]
    kept = ["may I?", half] if policy == "INTERRUPT" else []
    assert [*kept, "instead?", "".join(WORDS)] == said(mesh, session_id)


async def test_a_question_queued_behind_a_waiting_turn_fails_when_it_waits_too_long(
    mesh: Mesh,
) -> None:
    mesh.queue_seconds = 1
    async with a_waiting_turn(mesh) as (chat, asked):
        request = chat_service_pb2.StreamChatRequest(
            session_id=asked.events[0].started.session_id,
            message="later?",
            concurrency=chat_service_pb2.CONCURRENCY_POLICY_QUEUE,
        )
        events = await Asked(mesh, chat, request).end()
        asked.leave()
    assert ["queued", "failed"] == kinds(events)
    assert "TURN_QUEUE_TIMEOUT" == events[-1].failed.reason


async def test_a_cancelled_waiting_turn_ends_with_its_task(mesh: Mesh) -> None:
    async with a_waiting_turn(mesh) as (chat, asked):
        request = chat_service_pb2.CancelTurnRequest(turn_id=asked.turn_id)
        turn = (await chat.CancelTurn(request)).turn
        await asked.end()
    assert (turn_pb2.TURN_STATE_CANCELLED, []) == (turn.state, list(turn.interrupts))
    assert [turn.task_id] == mesh.agents.cancelled
    assert "cancelled" == asked.kinds[-1]


async def again(mesh: Mesh, chat: Any, turn_id: str, request_id: str = "") -> list[Any]:
    request = chat_service_pb2.RegenerateTurnRequest(turn_id=turn_id, request_id=request_id)
    async with asyncio.timeout(20):
        return [response.event async for response in chat.RegenerateTurn(request)]


async def test_a_question_answered_again_has_one_answer_in_its_session(mesh: Mesh) -> None:
    async with mesh.process() as chat:
        first = Asked(mesh, chat, chat_service_pb2.StreamChatRequest(message="why?"))
        await first.end()
        events = await again(mesh, chat, first.turn_id, "once")
        repeated = await again(mesh, chat, first.turn_id, "once")
        old, new = await state(chat, first.turn_id), await state(chat, events[0].turn_id)
        with pytest.raises(ServiceError) as twice:
            await again(mesh, chat, first.turn_id)
    session_id = first.events[0].started.session_id
    assert events == repeated
    assert ["why?", "".join(WORDS)] == said(mesh, session_id)
    assert (True, "".join(WORDS)) == (old.withdrawn, old.answer)
    assert (first.turn_id, "why?", False) == (new.regenerated_from, new.question, new.withdrawn)
    assert "FAILED_PRECONDITION" == twice.value.code


async def test_only_the_last_turn_is_answered_again(mesh: Mesh) -> None:
    async with mesh.process() as chat:
        first = Asked(mesh, chat, chat_service_pb2.StreamChatRequest(message="one?"))
        await first.end()
        session_id = first.events[0].started.session_id
        later = chat_service_pb2.StreamChatRequest(session_id=session_id, message="two?")
        await Asked(mesh, chat, later).end()
        with pytest.raises(ServiceError) as refused:
            await again(mesh, chat, first.turn_id)
    assert "branch the session" in refused.value.message
    assert 4 == len(mesh.sessions.messages[session_id])


async def test_the_last_rating_of_a_finished_turn_counts(mesh: Mesh) -> None:
    async with mesh.process() as chat:
        asked = Asked(mesh, chat, chat_service_pb2.StreamChatRequest(message="why?"))
        await asked.end()
        for rating, comment in ((1, "good"), (-1, "wrong page")):
            await chat.RateTurn(
                chat_service_pb2.RateTurnRequest(
                    turn_id=asked.turn_id, rating=rating, comment=comment
                )
            )
        turn = await state(chat, asked.turn_id)
        refused = []
        for fields in ({"rating": 2}, {"comment": "x" * 4097}):
            with pytest.raises(ServiceError) as error:
                await chat.RateTurn(
                    chat_service_pb2.RateTurnRequest(turn_id=asked.turn_id, **fields)
                )
            refused.append(error.value.message)
    assert (-1, "wrong page") == (turn.rating, turn.rating_comment)
    assert "rating" in refused[0]
    assert "4096 bytes" in refused[1]


async def test_a_turn_that_has_not_ended_is_not_rated(mesh: Mesh) -> None:
    async with a_waiting_turn(mesh) as (chat, asked):
        with pytest.raises(ServiceError) as refused:
            await chat.RateTurn(chat_service_pb2.RateTurnRequest(turn_id=asked.turn_id, rating=1))
        asked.leave()
    assert "FAILED_PRECONDITION" == refused.value.code
