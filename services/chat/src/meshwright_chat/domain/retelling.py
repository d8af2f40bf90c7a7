"""The stream of a finished turn, told again from what is stored when its journal is gone."""

from collections.abc import Iterable, Iterator

from meshwright_chat.domain.models import (
    Cancelled,
    Cited,
    Completed,
    Ending,
    Entry,
    Failed,
    Metered,
    Restarted,
    Started,
    TextDelta,
    Turn,
    TurnEvent,
    TurnState,
)


def retell(turn: Turn, after_sequence: int) -> Iterator[Entry]:
    """Yield the events of a finished turn that follow `after_sequence`.

    A reader that comes back gets what it saw withdrawn and the whole answer after it: how far it
    had come is known only as a position, and that position's journal is gone.
    """
    ended_at = turn.ended_at or turn.created_at
    first: TurnEvent
    if after_sequence == 0:
        first = Started(turn.session_id, turn.agent)
    else:
        first = Restarted(turn.attempt, keep_characters=0)
    events: list[TurnEvent] = [first]
    if turn.answer:
        # Of a turn that was interrupted it is what it had said.
        events.append(TextDelta(turn.answer))
    if turn.state is TurnState.COMPLETED:
        events.extend(Cited(citation) for citation in turn.citations)
        events.append(Metered(turn.usage))
    events.append(ending_of(turn))
    for sequence, event in enumerate(events, start=after_sequence + 1):
        yield Entry(turn.turn_id, sequence, turn.attempt, ended_at, event)


def retell_waiting(turn: Turn, after_sequence: int) -> Iterator[Entry]:
    """Yield what is known of a turn that waits for a person, when its journal is gone.

    Nothing to a reader that saw it all; positions stay below those of what comes after the wait.
    """
    if turn.pause is None or after_sequence >= turn.last_sequence:
        return
    events: list[TurnEvent] = list(turn.pause.interrupts)
    if after_sequence == 0:
        events.insert(0, Started(turn.session_id, turn.agent))
    asked_at = turn.waiting_since or turn.created_at
    for sequence, event in enumerate(events, start=after_sequence + 1):
        yield Entry(turn.turn_id, min(sequence, turn.last_sequence), turn.attempt, asked_at, event)


def said_in(entries: Iterable[Entry]) -> str:
    """Return the answer as a reader of these events has put it together so far."""
    text = ""
    for entry in entries:
        match entry.event:
            case TextDelta(more):
                text += more
            case Restarted(keep_characters=kept):
                text = text[:kept]
            case _:
                pass
    return text


def ending_of(turn: Turn) -> Ending:
    """Return the last event of a finished turn."""
    if turn.state is TurnState.COMPLETED:
        return Completed(turn.answer, turn.message_id, turn.context_version, turn.usage)
    if turn.state is TurnState.CANCELLED:
        return Cancelled(turn.cancelled_by)
    return Failed(turn.error_reason, turn.error_message, turn.error_retryable)
