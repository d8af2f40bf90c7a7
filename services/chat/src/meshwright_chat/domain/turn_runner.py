"""Running one turn to its end, and telling the truth about how it ended."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import structlog

from meshwright_chat.domain.concurrency import Places
from meshwright_chat.domain.errors import LeaseLost
from meshwright_chat.domain.live_turn import LiveTurn
from meshwright_chat.domain.models import (
    AgentEvent,
    AgentResult,
    Citation,
    Cited,
    Completed,
    Ending,
    Failed,
    Metered,
    Restarted,
    Started,
    TaskAccepted,
    Turn,
    Usage,
)
from meshwright_chat.domain.ports import Agents, Journal, Sessions, Turns
from meshwright_chat.domain.summaries import Summaries
from meshwright_chat.domain.waiting import Asked, Pause
from meshwright_chat.domain.watching import Silence, Watched
from meshwright_common.errors import ServiceError, Unavailable

logger = structlog.get_logger(__name__)

ENDS: Final = (AgentResult, Failed)
"""The last event of an agent is one of these."""
QUIET_SECONDS: Final = 0.3
"""After a question to a person: so long a silence is looked into, for the task may wait."""
LOST_SECONDS: Final = 60.0
"""So long a turn whose task was begun waits for a service: another worker takes the task when the
lease of a dead one is over."""
UNREACHED_SECONDS: Final = 30.0
"""So long it waits before that: a process that died starts within seconds, or some more where many
wait for it.
"""
LOOK_AGAIN_SECONDS: Final = 0.5
MOST_LOOK_AGAIN_SECONDS: Final = 1.0
"""Pauses while a service is away, with jitter: many turns look, on the machine that starts it."""
STEADY_SECONDS: Final = 10.0
"""An attempt that went on for so long was no part of the trouble before it."""
MAX_ATTEMPTS: Final = 5
"""A turn that killed its process this often is ended instead of tried again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the work ended, with what is stored beside the ending."""

    ending: Ending
    usage: Usage = field(default_factory=Usage)
    citations: tuple[Citation, ...] = ()
    summary_due: bool = False


class TurnRunner:
    """Does the work of a turn that this process owns."""

    def __init__(
        self,
        *,
        turns: Turns,
        places: Places,
        sessions: Sessions,
        agents: Agents,
        journal: Journal,
        now: Callable[[], datetime],
    ) -> None:
        self._turns = turns
        self._places = places
        self._sessions = sessions
        self._agents = agents
        self._journal = journal
        self._now = now
        self._summaries = Summaries(sessions, agents)

    def begin(self, turn: Turn) -> LiveTurn:
        """Return the live side of a new turn, its first event queued."""
        live = LiveTurn(turn, self._journal, self._now, first_sequence=1)
        live.emit(Started(turn.session_id, turn.agent))
        return live

    async def take_up(self, turn: Turn) -> LiveTurn:
        """Return the live side of a turn taken over from a dead process, or from a queue.

        Everything said before is withdrawn: the task's journaled steps are told again, whole.
        A turn that waited for a person goes on behind what was said.
        """
        try:
            told = await self._journal.last_sequence(turn.tenant_id, turn.turn_id)
        except Unavailable:
            told = 0
        if turn.pause is not None and told >= turn.last_sequence:
            return LiveTurn(turn, self._journal, self._now, first_sequence=told + 1)
        # The first event of a queued turn may be known to its reader alone. After a wait, positions
        # go on behind those that readers have seen, whatever the journal has lost.
        queued = 1 if turn.was_queued else 0
        told = max(told, turn.last_sequence, queued)
        whole = replace(turn, pause=None)
        live = LiveTurn(whole, self._journal, self._now, first_sequence=told + 1)
        if told == queued:
            live.emit(Started(turn.session_id, turn.agent))
        if turn.attempt > 1 or told > queued:
            live.emit(Restarted(turn.attempt, keep_characters=0))
        return live

    async def run(self, live: LiveTurn) -> None:
        """Work until the turn has ended or is no longer ours. Raises nothing but cancellation."""
        # Tasks by hand, because each ends the other in its own way: work that ends lets the writer
        # flush, a writer that ends has lost the lease and stops the work.
        # house: naked-task: both are awaited below, on every way out
        writer = asyncio.create_task(live.write(), name=f"journal-{live.turn.turn_id}")
        # house: naked-task: likewise
        work = asyncio.create_task(self._work(live), name=f"work-{live.turn.turn_id}")
        try:
            await asyncio.wait({writer, work}, return_when=asyncio.FIRST_COMPLETED)
            if work.done() and work.exception() is not None:
                await self._end_after_defect(live, work)
        finally:
            work.cancel()
            await asyncio.wait({work})
            live.close()
            await asyncio.wait({writer})
            self._note_lost(live, writer)

    async def _end_after_defect(self, live: LiveTurn, work: asyncio.Task[None]) -> None:
        logger.error("turn_defect", turn_id=live.turn.turn_id, exc_info=work.exception())
        ending = Failed("INTERNAL", "an internal error ended the turn", retryable=True)
        await self._finish(live, Outcome(ending))

    def _note_lost(self, live: LiveTurn, writer: asyncio.Task[None]) -> None:
        error = None if writer.cancelled() else writer.exception()
        if error is not None and not isinstance(error, LeaseLost):
            logger.error("journal_defect", turn_id=live.turn.turn_id, exc_info=error)

    async def _work(self, live: LiveTurn) -> None:
        if live.turn.attempt > MAX_ATTEMPTS:
            text = f"the turn was interrupted {MAX_ATTEMPTS} times and is given up"
            await self._finish(live, Outcome(Failed("TURN_INTERRUPTED", text, retryable=True)))
            return
        try:
            outcome = await self._answer_patiently(live)
        except LeaseLost:
            live.close()
            return
        except ServiceError as error:
            outcome = Outcome(_failure(error))
        if isinstance(outcome, Pause):
            await self._pause(live, outcome)
        else:
            await self._finish(live, outcome)

    async def _answer_patiently(self, live: LiveTurn) -> Outcome | Pause:
        """Answer, again when a service goes away meanwhile: its task goes on, or is found ended.

        What was told since is withdrawn and told again. Raises: ServiceError.
        """
        lost_at: datetime | None = None
        while True:
            began_at, told = self._now(), live.last_sequence
            try:
                return await self._answer(live)
            except Unavailable as error:
                now = self._now()
                # Not by what was told: an answer that cannot be stored is told each time.
                if lost_at is None or (now - began_at).total_seconds() > STEADY_SECONDS:
                    lost_at = now
                    logger.warning("turn_held_up", turn_id=live.turn.turn_id, reason=error.reason)
                limit = LOST_SECONDS if live.task_id else UNREACHED_SECONDS
                lost_seconds = (now - lost_at).total_seconds()
                if lost_seconds > limit:
                    raise
            if live.last_sequence > told:
                pause = live.turn.pause
                kept = 0 if pause is None else pause.kept_characters
                live.emit(Restarted(live.turn.attempt, kept))
            least = LOOK_AGAIN_SECONDS / 2
            most = min(max(lost_seconds, LOOK_AGAIN_SECONDS), MOST_LOOK_AGAIN_SECONDS)
            await asyncio.sleep(random.uniform(least, most))  # noqa: S311 -- jitter, not a secret

    async def _answer(self, live: LiveTurn) -> Outcome | Pause:
        turn = live.turn
        if turn.pause is not None:
            result = await self._execute(live, self._agents.go_on(turn))
        else:
            if live.history is None:
                if turn.regenerates:
                    await self._sessions.withdraw(turn.session_id, turn.regenerates, forget=False)
                live.history = await self._sessions.begin(
                    turn.session_id, turn.turn_id, turn.question
                )
            result = await self._execute(live, self._agents.execute(turn, live.history))
        if isinstance(result, Pause):
            return result
        if isinstance(result, Failed):
            return Outcome(result)
        stored = await self._sessions.commit(turn.session_id, turn.turn_id, turn.question, result)
        for citation in result.citations:
            live.emit(Cited(citation))
        live.emit(Metered(result.usage))
        ending = Completed(result.answer, stored.message_id, stored.context_version, result.usage)
        return Outcome(ending, result.usage, result.citations, stored.summary_due)

    async def _execute(
        self, live: LiveTurn, stream: AbstractAsyncContextManager[AsyncIterator[AgentEvent]]
    ) -> AgentResult | Failed | Pause:
        noting: asyncio.Task[None] | None = None
        asked: Asked | None = None
        try:
            async with stream as events, aclosing(Watched(events)) as watched:
                while (event := await watched.next(QUIET_SECONDS if asked else None)) is not None:
                    if isinstance(event, Silence):
                        if (pause := await self._pause_of(live, asked)) is not None:
                            return pause
                        continue
                    if isinstance(event, Asked):
                        asked = event
                        live.emit(event.interrupt)
                        continue
                    if isinstance(event, TaskAccepted):
                        live.task_id = event.task_id
                        # Beside the first words, which do not wait for it.
                        # house: naked-task: awaited on every way out
                        noting = asyncio.create_task(self._note_task(live, event.task_id))
                        continue
                    asked = None
                    if noting is not None and (isinstance(event, ENDS) or noting.done()):
                        await noting
                        noting = None
                    if isinstance(event, ENDS):
                        return event
                    live.emit(event)
                if (pause := await self._pause_of(live, asked)) is not None:
                    return pause
            return Failed("INTERNAL", "the agent ended without a result", retryable=True)
        finally:
            if noting is not None:
                noting.cancel()
                await asyncio.gather(noting, return_exceptions=True)

    async def _pause_of(self, live: LiveTurn, asked: Asked | None) -> Pause | None:
        """Return where the turn waits, if its task does; one that was asked may have answered."""
        if asked is None:
            return None
        try:
            interrupts = await self._agents.open_interrupts(live.task_id)
        except ServiceError as error:
            # The stream goes on, and is as good a sign of life.
            logger.warning("task_not_seen", turn_id=live.turn.turn_id, reason=error.reason)
            return None
        if not interrupts:
            return None
        return Pause(interrupts, asked.position, asked.kept_characters, asked.loose)

    async def _pause(self, live: LiveTurn, pause: Pause) -> None:
        """Let the turn wait: from here on nobody works on it until its task goes on."""
        try:
            await self._places.pause(live.turn, pause, last_sequence=live.last_sequence)
        except LeaseLost:
            pass
        except ServiceError as error:
            # The lease runs out, and another attempt comes to the same point.
            logger.warning("pause_not_stored", turn_id=live.turn.turn_id, reason=error.reason)
        live.close()

    async def _note_task(self, live: LiveTurn, task_id: str) -> None:
        """Store which task works for the turn; of a turn cancelled meanwhile, end the task.

        Raises: LeaseLost. The events of a turn that is another process's are refused by the
        journal, until this is looked at.
        """
        try:
            await self._turns.set_task(live.turn, task_id)
        except LeaseLost:
            if (await self._turns.find(live.turn.tenant_id, live.turn.turn_id)).is_cancelled:
                await self._agents.cancel(task_id)
            raise

    async def _finish(self, live: LiveTurn, outcome: Outcome) -> None:
        try:
            await self._turns.end(
                live.turn,
                outcome.ending,
                usage=outcome.usage,
                citations=outcome.citations,
                last_sequence=live.last_sequence + 1,
            )
        except LeaseLost:
            live.close()
            return
        except ServiceError as error:
            # The truth could not be written: the lease runs out and another attempt ends it.
            logger.warning("turn_end_not_stored", turn_id=live.turn.turn_id, reason=error.reason)
            live.close()
            return
        live.emit(outcome.ending)
        if outcome.summary_due:
            # Its readers have their end already; whoever asks next need not wait either.
            await self._summaries.ask(live.turn)
        live.close()


def _failure(error: ServiceError) -> Failed:
    retryable = error.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED"}
    return Failed(error.reason, error.message, retryable)
