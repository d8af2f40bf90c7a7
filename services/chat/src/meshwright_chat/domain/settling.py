"""Ending a turn whose place another one takes: its task first, then what it said.

Every step may be done again: a process that dies half-way leaves the rest to whoever takes the
stopped turn over, and both come to the same end.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import structlog

from meshwright_chat.domain.concurrency import ConcurrencyPolicy, Places, Settled
from meshwright_chat.domain.live_turn import LiveTurn
from meshwright_chat.domain.models import (
    Cancelled,
    Cited,
    Completed,
    Entry,
    Failed,
    Fenced,
    Metered,
    Turn,
    TurnEvent,
    Usage,
)
from meshwright_chat.domain.ports import Agents, Journal, Sessions
from meshwright_chat.domain.retelling import said_in
from meshwright_common.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    Unavailable,
)

logger = structlog.get_logger(__name__)

KEPT_CHARACTERS: Final = 250_000
"""Of what an interrupted turn said: as much as a message may have, whatever the script."""


class Settler:
    """Brings stopped turns to their end."""

    def __init__(
        self,
        *,
        places: Places,
        sessions: Sessions,
        agents: Agents,
        journal: Journal,
        now: Callable[[], datetime],
    ) -> None:
        self._places = places
        self._sessions = sessions
        self._agents = agents
        self._journal = journal
        self._now = now

    async def settle(self, turn: Turn, live: LiveTurn | None = None) -> None:
        """End a turn that this process has stopped; `live` is what ran here, and no longer does.

        Nothing of its task can start when the next turn gets the place. Raises: LeaseLost when
        another process does this; any other ServiceError when it has to be done again.
        """
        fenced = await self.fence(turn, live)
        await self._fence_journal(turn)
        try:
            how = await self._remainder(turn, live, fenced)
        except (NotFound, InvalidArgument, PermissionDenied) as error:
            # The session was deleted meanwhile: nothing is left to be kept or removed. Or it can
            # never be done: the session must not wait for it for ever.
            logger.warning("turn_not_kept", turn_id=turn.turn_id, reason=error.reason)
            how = Settled(Cancelled(turn.cancelled_by), fenced.usage)
        events: list[TurnEvent] = [how.ending]
        if isinstance(how.ending, Completed):
            events[:0] = [*map(Cited, how.citations), Metered(how.usage)]
        told = await self._told(turn)
        await self._places.settled(
            turn,
            Settled(
                how.ending,
                how.usage,
                how.answer,
                how.citations,
                last_sequence=told + len(events) if told else 0,
                withdrawn=how.withdrawn,
            ),
        )
        await self.tell(turn, told, events)

    async def give_up(self, turn: Turn, ending: Failed) -> None:
        """End a queued turn that has not begun. Raises: ServiceError."""
        told = await self._told(turn)
        last_sequence = told + 1 if told else 0
        if await self._places.give_up(replace(turn, last_sequence=last_sequence), ending):
            await self.tell(turn, told, [ending])

    async def fence(self, turn: Turn, live: LiveTurn | None) -> Fenced:
        """Return when no call of the turn's task can start any more, also of one that is on its
        way to be accepted. Raises: ServiceError when it has to be done again.
        """
        task_id = turn.task_id or ("" if live is None else live.task_id)
        if not task_id and turn.attempt > 0:
            try:
                history = None if live is None else live.history
                if history is None:
                    history = await self._sessions.begin(
                        turn.session_id, turn.turn_id, turn.question
                    )
                task_id = await self._agents.claim(turn, history)
            except (NotFound, FailedPrecondition, QuotaExceeded):
                # Its session is gone, it was withdrawn, or no task may begin: none did, or will.
                return Fenced(Usage())
        try:
            return await self._agents.cancel(task_id) if task_id else Fenced(Usage())
        except NotFound:
            return Fenced(Usage())

    async def _fence_journal(self, turn: Turn) -> None:
        """Let nothing be told any more that would not be kept."""
        try:
            await self._journal.fence(turn)
        except Unavailable as error:
            logger.warning("journal_away", turn_id=turn.turn_id, reason=error.reason)

    async def _remainder(self, turn: Turn, live: LiveTurn | None, fenced: Fenced) -> Settled:
        """Keep or remove what the turn said; return how it ends."""
        session_id, turn_id = turn.session_id, turn.turn_id
        cancelled = Cancelled(turn.cancelled_by)
        if turn.regenerates:
            await self._sessions.withdraw(session_id, turn.regenerates, forget=False)
        if turn.stop_policy == ConcurrencyPolicy.ROLLBACK:
            await self._sessions.withdraw(session_id, turn_id, forget=True)
            return Settled(cancelled, fenced.usage, withdrawn=True)
        result = fenced.result
        if result is not None:
            # It had come to its end before it was stopped.
            stored = await self._sessions.commit(session_id, turn_id, turn.question, result)
            ending = Completed(
                result.answer, stored.message_id, stored.context_version, result.usage
            )
            return Settled(ending, result.usage, result.answer, result.citations)
        said = await self._said(turn, live)
        if not said:
            await self._sessions.begin(session_id, turn_id, turn.question)
            return Settled(cancelled, fenced.usage)
        await self._sessions.keep(session_id, turn_id, turn.question, said, fenced.usage)
        return Settled(cancelled, fenced.usage, said)

    async def _said(self, turn: Turn, live: LiveTurn | None) -> str:
        entries: list[Entry] = []
        try:
            while more := await self._journal.read(
                turn.tenant_id,
                turn.turn_id,
                after_sequence=entries[-1].sequence if entries else 0,
                wait_seconds=0,
            ):
                entries.extend(more)
        except Unavailable as error:
            logger.warning("journal_away", turn_id=turn.turn_id, reason=error.reason)
            entries = []
        if not entries and live is not None:
            entries = list(live.entries)
        return said_in(entries)[:KEPT_CHARACTERS]

    async def _told(self, turn: Turn) -> int:
        try:
            return await self._journal.last_sequence(turn.tenant_id, turn.turn_id)
        except Unavailable:
            return 0

    async def tell(self, turn: Turn, told: int, events: Sequence[TurnEvent]) -> None:
        """Journal events behind those that were told, if the journal is there."""
        entries = [
            Entry(turn.turn_id, sequence, turn.attempt, self._now(), event)
            for sequence, event in enumerate(events, start=told + 1)
        ]
        try:
            await self._journal.append(turn, entries)
        except Unavailable as error:
            # Readers learn it from the stored turn instead.
            logger.warning("end_not_journaled", turn_id=turn.turn_id, reason=error.reason)
