"""Running one turn to its end, and telling the truth about how it ended."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

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
from meshwright_common.errors import ServiceError, Unavailable

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the work ended, with what is stored beside the ending."""

    ending: Ending
    usage: Usage = Usage()
    citations: tuple[Citation, ...] = ()


class TurnRunner:
    """Does the work of a turn that this process owns."""

    def __init__(
        self,
        *,
        turns: Turns,
        sessions: Sessions,
        agents: Agents,
        journal: Journal,
        now: Callable[[], datetime],
    ) -> None:
        self._turns = turns
        self._sessions = sessions
        self._agents = agents
        self._journal = journal
        self._now = now

    def begin(self, turn: Turn) -> LiveTurn:
        """Return the live side of a new turn, its first event queued."""
        live = LiveTurn(turn, self._journal, self._now, first_sequence=1)
        live.emit(Started(turn.session_id, turn.agent))
        return live

    async def take_up(self, turn: Turn) -> LiveTurn:
        """Return the live side of a turn taken over from a dead process.

        Everything said before is withdrawn: the task's journaled steps are told again, whole.
        """
        try:
            told = await self._journal.last_sequence(turn.tenant_id, turn.turn_id)
        except Unavailable:
            told = 0
        live = LiveTurn(turn, self._journal, self._now, first_sequence=told + 1)
        if told == 0:
            live.emit(Started(turn.session_id, turn.agent))
        live.emit(Restarted(turn.attempt, keep_characters=0))
        return live

    async def run(self, live: LiveTurn) -> None:
        """Work until the turn has ended or is no longer ours. Raises nothing but cancellation."""
        writer = asyncio.create_task(live.write(), name=f"journal-{live.turn.turn_id}")
        working = asyncio.ensure_future(self._work(live))
        try:
            # A writer that ends first has lost the lease: stop working at once.
            await asyncio.wait({writer, working}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            working.cancel()
            await asyncio.wait({working})
            live.close()
            await asyncio.wait({writer})
            if writer.exception() is not None:
                live.abandoned = True

    async def _work(self, live: LiveTurn) -> None:
        try:
            outcome = await self._answer(live)
        except LeaseLost:
            live.close(abandoned=True)
            return
        except ServiceError as error:
            outcome = Outcome(_failure(error))
        await self._finish(live, outcome)

    async def _answer(self, live: LiveTurn) -> Outcome:
        turn = live.turn
        await self._sessions.append_question(turn.session_id, turn.turn_id, turn.question)
        history = await self._sessions.history(turn.session_id)
        result = await self._execute(live, history)
        if isinstance(result, Failed):
            return Outcome(result)
        stored = await self._sessions.commit(turn.session_id, turn.turn_id, result)
        for citation in result.citations:
            live.emit(Cited(citation))
        live.emit(Metered(result.usage))
        ending = Completed(result.answer, stored.message_id, stored.context_version, result.usage)
        return Outcome(ending, result.usage, result.citations)

    async def _execute(self, live: LiveTurn, history: Sequence[object]) -> AgentResult | Failed:
        async with self._agents.execute(live.turn, history) as events:
            async for event in events:
                if isinstance(event, AgentResult | Failed):
                    return event
                await self._pass_on(live, event)
        return Failed("INTERNAL", "the agent ended without a result", retryable=True)

    async def _pass_on(self, live: LiveTurn, event: AgentEvent) -> None:
        if isinstance(event, TaskAccepted):
            await self._turns.set_task(live.turn, event.task_id)
        elif not isinstance(event, AgentResult | Failed):
            live.emit(event)

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
            live.close(abandoned=True)
            return
        except ServiceError as error:
            # The truth could not be written: the lease runs out and another attempt ends it.
            logger.warning("turn_end_not_stored", turn_id=live.turn.turn_id, reason=error.reason)
            live.close(abandoned=True)
            return
        live.emit(outcome.ending)
        live.close()


def _failure(error: ServiceError) -> Failed:
    retryable = error.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED"}
    return Failed(error.reason, error.message, retryable)
