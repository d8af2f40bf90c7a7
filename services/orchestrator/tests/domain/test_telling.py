"""What readers get: live, behind, and from the journal."""

import asyncio

import pytest

from meshwright_orchestrator.domain.conversation import ToolCall
from meshwright_orchestrator.domain.events import Checkpoint, Chunk, Started, TaskEvent
from meshwright_orchestrator.domain.journal import (
    ModelAnswered,
    Recalled,
    Step,
    ToolResult,
    ToolsAnswered,
)
from meshwright_orchestrator.domain.live_task import LiveTask
from meshwright_orchestrator.domain.models import Result
from meshwright_orchestrator.domain.telling import Teller, step_of

CALL = ToolCall("c1", "add", "{}")
ANSWER = ToolResult("c1", "add", "3")


async def read(live: LiveTask, after_step: int = 0) -> list[TaskEvent]:
    return [event async for _, event in live.follow(after_step)]


@pytest.mark.asyncio
async def test_reader_that_is_behind_gets_waiting_text_as_one() -> None:
    live = LiveTask("t", 1, 0)
    for word in ("a", "b", "c"):
        live.tell(1, Chunk(word))
    live.tell(1, Chunk("", "why"))
    live.tell(1, Checkpoint(1, 3))
    live.tell(2, Chunk("d"))
    live.close()
    assert await read(live) == [
        *(Chunk("abc"), Chunk("", "why"), Checkpoint(1, 3)),
        Chunk("d"),
    ]


@pytest.mark.asyncio
async def test_reasoning_and_the_text_after_it_may_join() -> None:
    live = LiveTask("t", 1, 0)
    for chunk in (Chunk("", "be"), Chunk("", "cause"), Chunk("x")):
        live.tell(1, chunk)
    live.close()
    assert await read(live) == [Chunk("x", "because")]


@pytest.mark.asyncio
async def test_reader_that_keeps_up_gets_each_piece_at_once() -> None:
    live = LiveTask("t", 1, 0)
    got: list[TaskEvent] = []

    async def reader() -> None:
        async for _, event in live.follow(0):
            got.append(event)

    reading = asyncio.ensure_future(reader())
    for number, word in enumerate(("a", "b", "c"), start=1):
        await asyncio.sleep(0)
        live.tell(1, Chunk(word))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(got) == number
    live.close()
    await reading
    assert got == [Chunk("a"), Chunk("b"), Chunk("c")]


@pytest.mark.asyncio
async def test_late_reader_is_told_from_the_step_it_does_not_know() -> None:
    live = LiveTask("t", 1, 0)
    live.tell(1, Chunk("a"))
    live.tell(1, Checkpoint(1, 1))
    live.tell(2, Chunk("b"))
    live.tell(2, Result("ab"))
    live.close()
    assert await read(live, after_step=1) == [Chunk("b"), Result("ab")]
    assert await read(live, after_step=2) == [Result("ab")]


@pytest.mark.asyncio
async def test_nothing_is_told_after_the_end() -> None:
    live = LiveTask("t", 1, 0)
    live.close()
    live.tell(1, Chunk("too late"))
    assert await read(live) == []


def test_journal_continues_where_the_live_stream_broke_off() -> None:
    """The end was committed but not told: the rest of the step comes from the journal."""
    teller = Teller("t", "chat")
    first = list(teller.began(1, 0))
    told = [teller.tell(event) for event in (Recalled(), Checkpoint(1, 0), Chunk("Hel"))]
    rest = list(teller.journaled([Step(2, 1, ModelAnswered("Hello."))]))
    assert [one.event for one in rest] == [Chunk("lo."), Checkpoint(2, 6)]
    positions = [one.sequence for one in [*first, *told, *rest]]
    assert positions == [1, 2, 1_000_000, 1_000_001, 1_000_002, 2_000_000]


def test_position_leads_back_to_the_last_checkpoint_and_knows_the_end() -> None:
    teller = Teller("t", "chat")
    list(teller.began(1, 0))
    told = [teller.tell(event) for event in (Chunk("a"), Checkpoint(1, 1), Chunk("b"))]
    end = teller.tell(Result("ab"))
    assert [step_of(one.sequence) for one in told] == [(0, False), (1, False), (1, False)]
    assert step_of(end.sequence) == (1, True)


def test_reader_that_comes_back_is_told_what_has_no_checkpoint_again() -> None:
    steps = [Step(1, 1, ModelAnswered("Hello.")), Step(2, 1, ModelAnswered("Bye."))]
    teller = Teller("t", "chat", steps[:1])
    (started,) = teller.began(1, 1)
    rest = list(teller.journaled(steps[1:]))
    assert (started.event, started.sequence) == (Started("chat", 1), 1_000_001)
    assert [one.event for one in rest] == [Chunk("\n\nBye."), Checkpoint(2, 12)]


def test_tool_events_are_told_once() -> None:
    teller = Teller("t", "chat")
    list(teller.began(1, 0))
    teller.tell(CALL)
    rest = list(teller.journaled([Step(1, 1, ToolsAnswered((CALL,), (ANSWER,)))]))
    assert [one.event for one in rest] == [ANSWER, Checkpoint(1, 0)]


def test_new_attempt_withdraws_what_has_no_checkpoint() -> None:
    teller = Teller("t", "chat")
    list(teller.began(1, 0))
    teller.tell(Chunk("Hel"))
    (started,) = teller.began(2, 0)
    assert (started.event, started.sequence) == (Started("chat", 0), 1)
    assert list(teller.began(2, 0)) == []
    told = list(teller.journaled([Step(1, 2, ModelAnswered("Howdy."))]))
    assert told[0].event == Chunk("Howdy.")


def test_message_that_begins_anew_withdraws_its_own_text_and_nothing_else() -> None:
    """R-13: what the journal adds is what the reader does not have of the second text."""
    teller = Teller("t", "chat")
    list(teller.began(1, 0))
    before = teller.tell(Chunk("Help"))
    again = teller.tell(Started("chat", 0))
    teller.tell(Chunk("Ho"))
    rest = list(teller.journaled([Step(1, 1, ModelAnswered("Howdy."))]))
    assert again.sequence == before.sequence + 1
    assert [one.event for one in rest if isinstance(one.event, Chunk)] == [Chunk("wdy.")]


def test_answers_of_several_steps_are_told_apart() -> None:
    teller = Teller("t", "chat")
    list(teller.began(1, 0))
    steps = [
        Step(1, 1, ModelAnswered("One.")),
        Step(2, 1, ToolsAnswered((CALL,), (ANSWER,))),
        Step(3, 1, ModelAnswered("Two.", "why")),
        Step(4, 1, ModelAnswered("thought", hidden=True)),
    ]
    events = [one.event for one in teller.journaled(steps)]
    assert [event for event in events if isinstance(event, Chunk)] == [
        Chunk("One."),
        Chunk("\n\nTwo.", "why"),
        Chunk("", "thought"),
    ]
    assert events[-1] == Checkpoint(4, len("One.\n\nTwo."))


def test_text_after_a_recall_that_was_journaled_with_it_is_told_once() -> None:
    """A held step is journaled with the next one: its checkpoint comes after text of that one."""
    teller = Teller("t", "rag")
    recalled = Recalled(degraded=("vector",))
    told = [one.event for one in teller.began(1, 0)]
    told += [teller.tell(event).event for event in (recalled, Chunk("Hel", "why"))]
    steps = [Step(1, 1, recalled), Step(2, 1, ModelAnswered("Hello", "why not"))]
    told += [one.event for one in teller.journaled(steps)]
    assert told == [
        *(Started("rag", 0), recalled, Chunk("Hel", "why"), Checkpoint(1, 0)),
        *(Chunk("lo", " not"), Checkpoint(2, 5)),
    ]
