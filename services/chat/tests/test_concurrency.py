"""A second question while a turn of the session has not ended: C3, for each policy and race."""

import asyncio
from typing import Any

import pytest

from meshwright.chat.v1 import chat_service_pb2, turn_pb2
from meshwright.orchestrator.v1 import task_pb2
from meshwright.types.v1 import message_pb2
from meshwright_common.errors import ServiceError
from meshwright_common.storage.redis import open_redis
from services.chat.tests.meeting_turns import a_running_turn, cancel, said, state
from services.chat.tests.test_turns import WORDS, Mesh, collect, mesh, resume
from services.chat.tests.told import kinds, text_of

__all__ = ["mesh"]

pytestmark = pytest.mark.asyncio

QUEUE = chat_service_pb2.CONCURRENCY_POLICY_QUEUE
INTERRUPT = chat_service_pb2.CONCURRENCY_POLICY_INTERRUPT
ROLLBACK = chat_service_pb2.CONCURRENCY_POLICY_ROLLBACK


async def test_queued_turns_begin_in_order_when_the_one_before_has_ended(mesh: Mesh) -> None:
    async with a_running_turn(mesh) as (chat, gate, first, ask):
        second = await ask("second?", QUEUE).begun()
        third = await ask("third?", QUEUE).begun()
        positions = [one.events[0].queued.position for one in (second, third)]
        waiting = await state(chat, third.turn_id)
        gate.opened.set()
        await first.end()
        ends = [(await one.end())[-1] for one in (second, third)]
    assert [1, 2] == positions
    assert turn_pb2.TURN_STATE_QUEUED == waiting.state
    assert first.turn_id == second.events[0].queued.running_turn_id
    assert ["queued", "started"] == second.kinds[:2] == third.kinds[:2]
    assert ["completed", "completed"] == kinds(ends)
    assert "restarted" not in second.kinds + third.kinds
    for one in (second, third):
        assert list(range(1, len(one.events) + 1)) == [event.sequence for event in one.events]
    session_id = first.events[0].started.session_id
    assert ["first?", "second?", "third?"] == said(mesh, session_id)[::2]


async def test_a_full_queue_refuses_with_its_limit(mesh: Mesh) -> None:
    async with a_running_turn(mesh) as (_, gate, first, ask):
        waiting = [await ask(f"{number}?", QUEUE).begun() for number in range(8)]
        refused = ask("one too many?", QUEUE)
        await refused.end()
        for one in waiting:
            one.leave()
        gate.opened.set()
        await first.end()
    assert refused.error is not None
    assert ("TURN_QUEUE_FULL", "8") == (refused.error.reason, refused.error.metadata["limit"])


async def test_a_queue_outlives_the_process_that_filled_it(mesh: Mesh) -> None:
    """The running turn is done again, then the queued one begins: in another process."""
    async with a_running_turn(mesh) as (_, gate, first, ask):
        second = await ask("second?", QUEUE).begun()
    gate.opened.set()
    async with mesh.process() as chat:
        whole = await resume(chat, second.turn_id, 0)
        before = await state(chat, first.turn_id)
    assert turn_pb2.TURN_STATE_COMPLETED == before.state
    assert ["queued", "started"] == kinds(whole)[:2]
    assert ("completed", "".join(WORDS)) == (kinds(whole)[-1], text_of(whole))


async def test_a_queued_turn_that_is_cancelled_never_begins(mesh: Mesh) -> None:
    async with a_running_turn(mesh) as (chat, gate, first, ask):
        second = await ask("second?", QUEUE).begun()
        third = await ask("third?", QUEUE).begun()
        cancelled = await cancel(chat, second.turn_id)
        gate.opened.set()
        await first.end()
        await third.end()
        await second.end()
    assert turn_pb2.TURN_STATE_CANCELLED == cancelled.state
    assert ["queued", "cancelled"] == second.kinds
    assert "completed" == third.kinds[-1]
    assert second.turn_id not in mesh.agents.executions


async def test_a_queued_turn_of_a_deleted_session_fails_and_says_why(mesh: Mesh) -> None:
    async with a_running_turn(mesh) as (_, gate, first, ask):
        second = await ask("second?", QUEUE).begun()
        mesh.sessions.messages.clear()
        gate.opened.set()
        await first.end()
        events = await second.end()
    assert ("failed", "SESSION_NOT_FOUND") == (kinds(events)[-1], events[-1].failed.reason)


async def test_the_same_request_follows_the_same_queued_turn(mesh: Mesh) -> None:
    async with a_running_turn(mesh) as (_, gate, first, ask):
        once = await ask("second?", QUEUE, request_id="once").begun()
        again = await ask("second?", QUEUE, request_id="once").begun()
        gate.opened.set()
        await first.end()
        ends = [await one.end() for one in (once, again)]
    assert ends[0] == ends[1]


async def test_an_interrupted_turn_keeps_what_it_said_and_is_fenced_before_the_next(
    mesh: Mesh,
) -> None:
    async with a_running_turn(mesh) as (chat, gate, first, ask):
        executed: list[int] = []

        async def look() -> None:
            executed.append(len(mesh.agents.executions))

        mesh.agents.before_cancel = look
        gate.opened.clear()
        mesh.agents.gate = _no_gate
        second = ask("second?", INTERRUPT)
        await second.end()
        await first.end()
        stored = await state(chat, first.turn_id)
    part = "".join(WORDS[:5])
    session_id = first.events[0].started.session_id
    # Its task was cancelled while no other had begun.
    assert [1] == executed
    assert ("cancelled", part) == (first.kinds[-1], text_of(first.events))
    assert (turn_pb2.TURN_STATE_CANCELLED, part) == (stored.state, stored.answer)
    assert ["first?", part, "second?", "".join(WORDS)] == said(mesh, session_id)
    assert [False, True, False, False] == [
        one.interrupted for one in mesh.sessions.messages[session_id]
    ]
    assert ["queued", "started"] == second.kinds[:2]
    assert "completed" == second.kinds[-1]


async def test_what_an_interrupted_turn_said_is_told_when_its_journal_is_gone(mesh: Mesh) -> None:
    async with a_running_turn(mesh) as (chat, _, first, ask):
        mesh.agents.gate = _no_gate
        await ask("second?", INTERRUPT).end()
        await first.end()
        async with open_redis(mesh.redis) as client:
            await client.flushall()
        whole = await resume(chat, first.turn_id, 0)
    assert ["started", "message_delta", "cancelled"] == kinds(whole)
    assert "".join(WORDS[:5]) == text_of(whole)


async def test_a_turn_that_is_rolled_back_leaves_nothing_to_read(mesh: Mesh) -> None:
    async with a_running_turn(mesh) as (chat, _, first, ask):
        mesh.agents.gate = _no_gate
        second = ask("second?", ROLLBACK)
        await second.end()
        await first.end()
        stored = await state(chat, first.turn_id)
    session_id = first.events[0].started.session_id
    assert ["second?", "".join(WORDS)] == said(mesh, session_id)
    assert (turn_pb2.TURN_STATE_CANCELLED, True) == (stored.state, stored.withdrawn)
    assert ("", "") == (stored.question, stored.answer)
    assert b"first?" not in mesh.agents.asked[-1]
    assert "cancelled" == first.kinds[-1]


async def test_a_turn_whose_task_had_ended_is_completed_and_not_interrupted(mesh: Mesh) -> None:
    """Its answer is whole: it stays whole."""
    async with a_running_turn(mesh) as (chat, _, first, ask):
        (task_id,) = mesh.agents.task_ids.values()
        mesh.agents.completed[task_id] = task_pb2.TaskFinal(
            answer="whole",
            messages=[
                message_pb2.Message(
                    role=message_pb2.ROLE_ASSISTANT, parts=[message_pb2.ContentPart(text="whole")]
                )
            ],
        )
        mesh.agents.gate = _no_gate
        await ask("second?", INTERRUPT).end()
        await first.end()
        stored = await state(chat, first.turn_id)
    assert (turn_pb2.TURN_STATE_COMPLETED, "whole") == (stored.state, stored.answer)
    assert "completed" == first.kinds[-1]
    session_id = first.events[0].started.session_id
    assert ["first?", "whole", "second?", "".join(WORDS)] == said(mesh, session_id)


async def test_rolling_back_a_turn_whose_answer_was_just_stored_removes_that_too(
    mesh: Mesh,
) -> None:
    committed, held = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        committed.set()
        await held.wait()

    async with a_running_turn(mesh) as (_, gate, first, ask):
        mesh.sessions.after_commit = hold
        gate.opened.set()
        await committed.wait()
        mesh.sessions.after_commit = _go_on
        await ask("second?", ROLLBACK).end()
        held.set()
        await first.end()
    session_id = first.events[0].started.session_id
    assert ["second?", "".join(WORDS)] == said(mesh, session_id)
    assert "cancelled" == first.kinds[-1]


async def test_two_interrupts_at_once_leave_one_turn_at_work_and_every_question(
    mesh: Mesh,
) -> None:
    async with a_running_turn(mesh) as (chat, _, first, ask):
        mesh.agents.gate = _no_gate
        both = [ask(f"{name}?", INTERRUPT) for name in ("second", "third")]
        ends = [(await one.end())[-1].WhichOneof("event") for one in both]
        await first.end()
        turns = await chat.ListTurns(
            chat_service_pb2.ListTurnsRequest(session_id=first.events[0].started.session_id)
        )
    assert "cancelled" == first.kinds[-1]
    assert "completed" in ends
    assert set(ends) <= {"completed", "cancelled"}
    assert not [one for one in turns.turns if not one.HasField("end_time")]
    questions = said(mesh, first.events[0].started.session_id)
    assert {"first?", "second?", "third?"} <= set(questions)


async def test_an_interrupt_of_one_that_has_not_begun_takes_its_place(mesh: Mesh) -> None:
    held = asyncio.Event()
    async with a_running_turn(mesh) as (_, _, first, ask):
        mesh.agents.gate = _no_gate
        mesh.agents.before_cancel = held.wait
        second = await ask("second?", INTERRUPT).begun()
        third = await ask("third?", ROLLBACK).begun()
        held.set()
        ends = [(await one.end())[-1].WhichOneof("event") for one in (first, second, third)]
    assert ["cancelled", "cancelled", "completed"] == ends
    session_id = first.events[0].started.session_id
    part = "".join(WORDS[:5])
    assert ["first?", part, "third?", "".join(WORDS)] == said(mesh, session_id)
    assert second.turn_id not in mesh.agents.executions


async def test_an_interrupt_that_its_process_did_not_finish_is_finished_by_another(
    mesh: Mesh,
) -> None:
    """Killed after the fence, before anything was kept."""
    cancelling = asyncio.Event()

    async def never() -> None:
        cancelling.set()
        await asyncio.Event().wait()

    async with a_running_turn(mesh) as (_, _, first, ask):
        mesh.agents.gate = _no_gate
        mesh.agents.before_cancel = never
        second = await ask("second?", INTERRUPT).begun()
        await cancelling.wait()
    mesh.agents.before_cancel = _go_on
    async with mesh.process() as chat:
        whole = await resume(chat, second.turn_id, 0)
        stored = await state(chat, first.turn_id)
    part = "".join(WORDS[:5])
    assert "completed" == kinds(whole)[-1]
    assert (turn_pb2.TURN_STATE_CANCELLED, part) == (stored.state, stored.answer)
    session_id = first.events[0].started.session_id
    assert ["first?", part, "second?", "".join(WORDS)] == said(mesh, session_id)


async def test_a_session_that_is_deleted_while_a_turn_is_interrupted_ends_both(
    mesh: Mesh,
) -> None:
    async with a_running_turn(mesh) as (_, _, first, ask):
        mesh.agents.gate = _no_gate

        async def delete() -> None:
            mesh.sessions.messages.clear()

        mesh.agents.before_cancel = delete
        second = await ask("second?", INTERRUPT).end()
        await first.end()
    assert "cancelled" == first.kinds[-1]
    assert "SESSION_NOT_FOUND" == second[-1].failed.reason


async def test_cancelling_a_turn_that_is_being_replaced_returns_when_that_is_done(
    mesh: Mesh,
) -> None:
    held = asyncio.Event()
    async with a_running_turn(mesh) as (chat, _, first, ask):
        mesh.agents.gate = _no_gate
        mesh.agents.before_cancel = held.wait
        second = await ask("second?", INTERRUPT).begun()
        cancelling = asyncio.ensure_future(cancel(chat, first.turn_id))
        held.set()
        turn = await cancelling
        await second.end()
    assert turn_pb2.TURN_STATE_CANCELLED == turn.state
    assert "".join(WORDS[:5]) == turn.answer
    assert "completed" == second.kinds[-1]


async def test_an_unknown_policy_is_refused_by_name(mesh: Mesh) -> None:
    unknown: Any = 9
    request = chat_service_pb2.StreamChatRequest(message="why?", concurrency=unknown)
    async with mesh.process() as chat:
        with pytest.raises(ServiceError) as refused:
            await collect(chat, request)
    assert "reject, queue, interrupt or rollback" in refused.value.message


async def _no_gate(number: int) -> None:
    await asyncio.sleep(0)


async def _go_on() -> None:
    await asyncio.sleep(0)
