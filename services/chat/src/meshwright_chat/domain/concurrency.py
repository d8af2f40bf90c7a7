"""A second question while a turn of the session has not ended: whose place it gets, and when.

A session has one place. Whoever frees it gives it to the next in the same statement, so that no two
turns of a session are ever at work, whichever processes they are of. A turn that is to be stopped
keeps the place until its task is fenced and what it said is kept or removed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from meshwright_chat.domain.models import Citation, Ending, Turn, TurnRequest, Usage
from meshwright_chat.domain.ports import Quota
from meshwright_chat.domain.waiting import Pause, Queued


class ConcurrencyPolicy(StrEnum):
    """What to do when the session has a turn that has not ended."""

    REJECT = "reject"
    QUEUE = "queue"
    INTERRUPT = "interrupt"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Joined:
    """A turn that was put behind others, and the one that this process is to stop for it.

    `existed`: the request_id is known and the turn is its turn.
    """

    turn: Turn
    existed: bool = False
    queued: Queued | None = None
    stopping: Turn | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """How a stopped turn ends. `answer` is what it had said; empty when it was rolled back."""

    ending: Ending
    usage: Usage
    answer: str = ""
    citations: tuple[Citation, ...] = ()
    last_sequence: int = 0
    withdrawn: bool = False


class Places(Protocol):
    """Who has the place of a session, who waits for it, and who waits for a person."""

    async def join(
        self, turn: Turn, request: TurnRequest, policy: ConcurrencyPolicy, quota: Quota
    ) -> Joined | None:
        """Store the turn behind the one that has the place; None when nobody has it.

        With INTERRUPT and ROLLBACK the turn that it is to replace is fenced in the same
        transaction, and this process owns it. Raises: RequestIdReused, TurnQueueFull,
        QuotaExceeded.
        """
        ...

    async def settled(self, turn: Turn, how: Settled) -> None:
        """End a turn that was stopped; the next gets its place. Raises: LeaseLost."""
        ...

    async def pause(self, turn: Turn, pause: Pause, *, last_sequence: int) -> None:
        """Let a running turn wait for a person, without a lease. Raises: LeaseLost."""
        ...

    async def due(self, limit: int) -> Sequence[Turn]:
        """Return waiting turns whose task is to be looked at, and queued ones that are overdue."""
        ...

    async def looked(self, turn: Turn, pause: Pause) -> None:
        """Note that a waiting turn goes on waiting for `pause`: the next look is due later."""
        ...

    async def resume(self, turn: Turn) -> Turn | None:
        """Own a waiting turn that can go on; None when somebody else did."""
        ...

    async def give_up(self, turn: Turn, ending: Ending) -> bool:
        """End a queued turn that never began; return whether it still waited."""
        ...

    async def is_last(self, turn: Turn) -> bool:
        """Return whether no later turn belongs to the session's conversation."""
        ...

    async def rate(self, turn: Turn, rating: int, comment: str) -> Turn:
        """Store the rating of an ended turn. Raises: TurnNotEnded."""
        ...
