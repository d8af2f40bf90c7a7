"""Errors of turns."""

from meshwright_common.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    OutOfRange,
    ResourceExhausted,
    Unavailable,
)


class TurnNotFound(NotFound):
    """No such turn for this user. Somebody else's turn looks the same."""

    reason = "TURN_NOT_FOUND"
    text = "there is no turn with this id"


class TurnInProgress(FailedPrecondition):
    """The session has a running turn."""

    reason = "TURN_IN_PROGRESS"
    text = "turn {turn_id} is still running in this session: wait for its end or cancel it"


class TurnWaits(TurnInProgress):
    """The session has a turn that waits for a person."""

    text = (
        "turn {turn_id} of this session waits for an answer to interrupt {interrupt_id}: answer it "
        "or cancel the turn"
    )


class TurnQueueFull(ResourceExhausted):
    """As many turns as may wait in a session do."""

    reason = "TURN_QUEUE_FULL"
    text = "{limit} turns wait in this session already: wait until one of them has begun"


class TurnNotEnded(FailedPrecondition):
    """What was asked for needs a turn that has ended."""

    text = "the turn has not ended yet: wait for its end or cancel it"


class NotTheLastTurn(FailedPrecondition):
    """Only the end of a conversation can be told anew."""

    text = (
        "only the last turn of a session can be answered again: branch the session before this one "
        "and ask there"
    )


class CursorExpired(OutOfRange):
    """The position to resume after does not exist in this turn."""

    reason = "CURSOR_EXPIRED"
    text = "after_sequence {after_sequence} is beyond the last event of this turn"


class RequestIdReused(AlreadyExists):
    """The request_id was used for another question."""

    reason = "IDEMPOTENCY_KEY_REUSED"
    text = "request_id was used with another request"


class LeaseLost(Aborted):
    """Another process owns the turn, or it was cancelled: this one must stop and write nothing."""

    reason = "LEASE_LOST"
    text = "this process no longer owns the turn"


class EntriesForgotten(Unavailable):
    """The journal has lost what came before these entries: it is to be given the whole again."""

    text = "the journal lost the events of this turn"
