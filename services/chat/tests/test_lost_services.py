"""Turns whose session or orchestrator service goes away: they wait, and are told again, whole."""

from typing import Any

import pytest

from meshwright.chat.v1 import chat_service_pb2, turn_pb2
from meshwright_chat.domain import turn_runner, turns
from meshwright_common.errors import Unavailable
from meshwright_common.testing.waiting import eventually
from services.chat.tests.meeting_turns import Asked, a_running_turn, cancel, state
from services.chat.tests.test_turns import WORDS, Mesh, collect, mesh
from services.chat.tests.told import kinds, text_of

__all__ = ["mesh"]


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [0, 20])
async def test_a_turn_whose_orchestrator_went_away_goes_on_when_it_is_back(
    mesh: Mesh, number: int
) -> None:
    """Its task goes on meanwhile: what was told is told again, whole, and stored once."""
    broken = [number]

    async def die(word: int) -> None:
        if word in broken:
            broken.clear()
            raise Unavailable("the process is gone")

    mesh.agents.gate = die
    async with mesh.process() as chat:
        events = await collect(chat, chat_service_pb2.StreamChatRequest(message="why?"))
    assert not broken
    assert number == 0 or "restarted" in kinds(events)
    assert "".join(WORDS) == text_of(events) == events[-1].completed.answer
    assert mesh.agents.asked[0] == mesh.agents.asked[1]
    (messages,) = mesh.sessions.messages.values()
    assert 2 == len(messages)


@pytest.mark.asyncio
async def test_an_answer_waits_for_a_session_service_that_went_away(mesh: Mesh) -> None:
    refusals = [Unavailable("the process is gone")]

    async def refuse() -> None:
        if refusals:
            raise refusals.pop()

    mesh.sessions.after_commit = refuse
    async with mesh.process() as chat:
        events = await collect(chat, chat_service_pb2.StreamChatRequest(message="why?"))
    assert not refusals
    assert "".join(WORDS) == text_of(events) == events[-1].completed.answer
    (messages,) = mesh.sessions.messages.values()
    assert 2 == len(messages)


@pytest.mark.asyncio
async def test_an_answer_that_cannot_be_stored_is_not_told_for_ever(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse() -> None:
        raise Unavailable("the process is gone")

    monkeypatch.setattr(turn_runner, "LOST_SECONDS", 1.0)
    mesh.sessions.after_commit = refuse
    async with mesh.process() as chat:
        events = await collect(chat, chat_service_pb2.StreamChatRequest(message="why?"))
    assert "failed" == kinds(events)[-1]
    assert 1 <= kinds(events).count("restarted") <= 4


@pytest.mark.asyncio
async def test_a_cancel_waits_for_an_orchestrator_that_went_away(mesh: Mesh) -> None:
    """After "cancelled" nothing begins any more (R-07): not before the task is fenced."""
    refusals = [Unavailable("the process is gone")] * 2

    async def refuse() -> None:
        if refusals:
            raise refusals.pop()

    async with a_running_turn(mesh) as (chat, _, turn, _):
        await eventually(lambda: has_task(chat, turn.turn_id))
        mesh.agents.before_cancel = refuse
        cancelled = await cancel(chat, turn.turn_id)
    assert turn_pb2.TURN_STATE_CANCELLED == cancelled.state
    assert not refusals
    assert list(mesh.agents.task_ids.values()) == mesh.agents.cancelled


@pytest.mark.asyncio
async def test_a_task_that_cannot_be_cancelled_yet_is_so_later_though_nobody_asks_again(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    back: list[bool] = []

    async def refuse() -> None:
        if not back:
            raise Unavailable("the process is gone")

    monkeypatch.setattr(turns, "FENCE_SECONDS", 0.1)
    async with a_running_turn(mesh) as (chat, _, turn, _):
        await eventually(lambda: has_task(chat, turn.turn_id))
        mesh.agents.before_cancel = refuse
        for _ in range(2):
            # Neither says that it is cancelled: its task may still be taken up by another worker.
            with pytest.raises(Unavailable):
                await cancel(chat, turn.turn_id)
        assert not mesh.agents.cancelled
        back.append(True)
        await eventually(lambda: bool(mesh.agents.cancelled))


@pytest.mark.asyncio
async def test_a_task_whose_acceptance_nobody_heard_of_is_cancelled_too(mesh: Mesh) -> None:
    """It would be taken over, and begin, when its lease ran out."""
    mesh.agents.says_nothing = True
    async with mesh.process() as chat:
        asked = Asked(mesh, chat, chat_service_pb2.StreamChatRequest(message="why?"))
        await eventually(lambda: bool(mesh.agents.executions))
        cancelled = await cancel(chat, (await asked.begun()).turn_id)
        await asked.end()
    assert turn_pb2.TURN_STATE_CANCELLED == cancelled.state
    assert list(mesh.agents.task_ids.values()) == mesh.agents.cancelled


async def has_task(chat: Any, turn_id: str) -> bool:
    return bool((await state(chat, turn_id)).task_id)
