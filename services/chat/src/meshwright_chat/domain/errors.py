"""Errors of turns."""

from meshwright_common.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    OutOfRange,
    Unavailable,
    Unimplemented,
)


class TurnNotFound(NotFound):
    """No such turn for this user. Somebody else's turn looks the same."""

    reason = "TURN_NOT_FOUND"
    text = "there is no turn with this id"


class TurnInProgress(FailedPrecondition):
    """The session has a running turn."""

    reason = "TURN_IN_PROGRESS"
    text = "turn {turn_id} is still running in this session: wait for its end or cancel it"


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


class PolicyNotServed(Unimplemented):
    """The concurrency policy is declared but not served by this version."""

    reason = "NOT_YET_SERVED"
    text = "concurrency: only REJECT is served by this version"
