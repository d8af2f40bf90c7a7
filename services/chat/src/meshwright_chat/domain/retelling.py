"""The stream of a finished turn, told again from what is stored when its journal is gone."""

from collections.abc import Iterator

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
    if turn.state is TurnState.COMPLETED:
        events.append(TextDelta(turn.answer))
        events.extend(Cited(citation) for citation in turn.citations)
        events.append(Metered(turn.usage))
    events.append(ending_of(turn))
    for sequence, event in enumerate(events, start=after_sequence + 1):
        yield Entry(turn.turn_id, sequence, turn.attempt, ended_at, event)


def ending_of(turn: Turn) -> Ending:
    """Return the last event of a finished turn."""
    if turn.state is TurnState.COMPLETED:
        return Completed(turn.answer, turn.message_id, turn.context_version, turn.usage)
    if turn.state is TurnState.CANCELLED:
        return Cancelled(turn.cancelled_by)
    return Failed(turn.error_reason, turn.error_message, turn.error_retryable)
