"""Turns: opened once, running as tasks of this process, followed by anybody who may."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from meshwright_chat.domain.errors import CursorExpired, TurnNotFound
from meshwright_chat.domain.live_turn import LiveTurn
from meshwright_chat.domain.models import Cancelled, Entry, Turn, TurnRequest, TurnState
from meshwright_chat.domain.ports import Agents, Journal, Quota, Quotas, Sessions, Turns
from meshwright_chat.domain.retelling import retell
from meshwright_chat.domain.turn_runner import TurnRunner
from meshwright_common.context import CallContext, Principal, bind, current
from meshwright_common.errors import QuotaExceeded, ServiceError, Unavailable
from meshwright_common.ids import new_id

logger = structlog.get_logger(__name__)

DEFAULT_AGENT: Final = "rag"
TITLE_CHARACTERS: Final = 80
READ_WAIT_SECONDS: Final = 2.0
"""How long a reader of the journal waits before it looks at the stored turn again."""
TAKE_OVER_BATCH: Final = 20
SHARE_HERE: Final = 4
"""With a fourth of a tenant's turns in this process, it may have no room for another one."""
SUSPENSION: Final = "suspension"
"""Who cancelled the turns of a suspended tenant."""
CANCEL_WAIT_SECONDS: Final = 2.0
"""How long cancelling waits for a turn whose task was not yet accepted."""


@dataclass(frozen=True, slots=True)
class Cadence:
    """How often, in seconds, leases are renewed, lost turns and suspended tenants looked for."""

    renew_seconds: float
    sweep_seconds: float
    suspension_seconds: float


class TurnDesk:
    """Opens turns, keeps those that run here, and lets readers follow any turn."""

    def __init__(  # noqa: PLR0913 - one argument for each thing that it works with
        self,
        *,
        runner: TurnRunner,
        turns: Turns,
        sessions: Sessions,
        agents: Agents,
        journal: Journal,
        quotas: Quotas,
        now: Callable[[], datetime],
        cadence: Cadence,
    ) -> None:
        self._runner = runner
        self._quotas = quotas
        self._turns = turns
        self._sessions = sessions
        self._agents = agents
        self._journal = journal
        self._now = now
        self._cadence = cadence
        self._live: dict[str, LiveTurn] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._draining = False

    # --- for callers ---------------------------------------------------------------------------

    async def start(self, caller: Principal, request: TurnRequest) -> Turn:
        """Store a turn and begin it, or return the one its request_id stands for.

        Raises: NotFound (SESSION_NOT_FOUND), TurnInProgress, RequestIdReused, Unavailable;
        QuotaExceeded; FailedPrecondition (TENANT_SUSPENDED).
        """
        if self._draining:
            raise Unavailable("this process is shutting down", retry_after_seconds=1.0)
        try:
            quota = await self._admit(caller.tenant_id, makes_session=not request.session_id)
        except QuotaExceeded:
            # Begun before the quota was used up: it may still be followed.
            known = request.request_id and await self._turns.known(
                caller.tenant_id, caller.subject, request
            )
            if not known:
                raise
            return known
        session = (
            await self._sessions.find(request.session_id)
            if request.session_id
            else await self._sessions.create(_title(request.question), request.request_id)
        )
        turn = Turn(
            turn_id=new_id(),
            session_id=session.session_id,
            owner=caller,
            agent=request.agent or session.agent or DEFAULT_AGENT,
            model=request.model,
            knowledge_base_ids=request.knowledge_base_ids or session.knowledge_base_ids,
            question=request.question,
            state=TurnState.RUNNING,
            attempt=1,
            lease_epoch=1,
            created_at=self._now(),
        )
        opened = await self._turns.open(turn, request, quota)
        if not opened.existed:
            self._launch(self._runner.begin(opened.turn))
        return opened.turn

    async def get(self, caller: Principal, turn_id: str) -> Turn:
        """Return the caller's turn. Raises: TurnNotFound."""
        turn = await self._turns.find(caller.tenant_id, turn_id)
        if turn.owner.subject != caller.subject:
            raise TurnNotFound
        return turn

    async def list_of_session(
        self, caller: Principal, session_id: str, *, before: str, limit: int
    ) -> Sequence[Turn]:
        """Return the caller's turns of a session, newest first.

        Raises: NotFound (SESSION_NOT_FOUND).
        """
        await self._sessions.find(session_id)
        return await self._turns.list_of_session(
            caller.tenant_id, caller.subject, session_id, before=before, limit=limit
        )

    async def count_running(self, tenant_id: str) -> int:
        """Return how many turns of a tenant have not ended."""
        return await self._turns.count_running(tenant_id)

    async def cancel(self, caller: Principal, turn_id: str) -> Turn:
        """Stop a turn; returns when nothing more can start for it. Raises: TurnNotFound."""
        found = await self.get(caller, turn_id)
        return await self._cancel(found, caller.subject)

    async def _cancel(self, found: Turn, cancelled_by: str) -> Turn:
        if found.state is not TurnState.RUNNING:
            return found
        turn_id = found.turn_id
        turn = await self._turns.cancel(found.tenant_id, turn_id, cancelled_by)
        if turn.state is not TurnState.CANCELLED:
            return turn
        if turn.task_id:
            await self._agents.cancel(turn.task_id)
        else:
            # The task may be on its way: its runner meets the fence and cancels it.
            await self._wait_local(turn_id, CANCEL_WAIT_SECONDS)
        await self._stop_local(turn_id)
        await self._tell_cancelled(turn)
        return turn

    async def follow(
        self, caller: Principal, turn_id: str, after_sequence: int
    ) -> AsyncIterator[Entry]:
        """Yield the turn's events after `after_sequence`, to its last.

        Raises: TurnNotFound; CursorExpired when the turn has ended before that position.
        """
        async for entry in self.follow_turn(await self.get(caller, turn_id), after_sequence):
            yield entry

    async def follow_turn(self, turn: Turn, after_sequence: int = 0) -> AsyncIterator[Entry]:
        """Do as `follow`, for a turn that was just read."""
        position = after_sequence
        while True:
            live = self._live.get(turn.turn_id)
            if live is not None and position + 1 >= live.first_sequence:
                async for entry in live.follow(position):
                    position = entry.sequence
                    yield entry
                    if entry.is_last:
                        return
                await asyncio.sleep(0)
                continue
            entries = await self._read(turn, position)
            for entry in entries:
                position = entry.sequence
                yield entry
                if entry.is_last:
                    return
            if not entries:
                turn = await self._turns.find(turn.tenant_id, turn.turn_id)
                if turn.state is not TurnState.RUNNING:
                    async for entry in self._after_the_end(turn, position):
                        yield entry
                    return

    # --- for the process -------------------------------------------------------------------------

    async def keep_leases(self) -> None:
        """Renew the leases of the turns that run here, and stop those that were lost."""
        while True:
            await asyncio.sleep(self._cadence.renew_seconds)
            running = [live.turn for live in self._live.values()]
            if not running:
                continue
            try:
                ours = await self._turns.renew(running)
            except ServiceError as error:
                logger.warning("lease_renewal_failed", reason=error.reason, count=len(running))
                continue
            for turn in running:
                if turn.turn_id not in ours:
                    await self._stop_local(turn.turn_id)

    async def take_over_lost(self) -> None:
        """Own and run turns whose process died, for as long as this process lives."""
        while True:
            try:
                for turn in await self._turns.take_over(TAKE_OVER_BATCH):
                    with bind(owner_context(turn)):
                        logger.info("turn_taken_over", turn_id=turn.turn_id, attempt=turn.attempt)
                        self._launch(await self._runner.take_up(turn))
            except ServiceError as error:
                logger.warning("turn_sweep_failed", reason=error.reason)
            await asyncio.sleep(self._cadence.sweep_seconds)

    async def end_suspended(self) -> None:
        """Cancel the turns of suspended tenants, for as long as this process lives."""
        while True:
            await asyncio.sleep(self._cadence.suspension_seconds)
            running = [live.turn for live in self._live.values()]
            for tenant_id in {turn.tenant_id for turn in running}:
                try:
                    if (await self._quotas.of(tenant_id)).active:
                        continue
                    for turn in running:
                        if turn.tenant_id == tenant_id:
                            with bind(owner_context(turn)):
                                logger.info("turn_of_suspended_tenant", turn_id=turn.turn_id)
                                await self._cancel(turn, SUSPENSION)
                except ServiceError as error:
                    # A tenant that was active stays so until somebody says that it is not.
                    logger.warning("suspension_not_known", reason=error.reason)

    async def drain(self, timeout_seconds: float) -> None:
        """Refuse new turns and wait for the running ones; the rest is left to another process."""
        self._draining = True
        tasks = set(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_seconds)
        for turn_id in list(self._tasks):
            await self._stop_local(turn_id)

    # --- inside ----------------------------------------------------------------------------------

    async def _admit(self, tenant_id: str, *, makes_session: bool) -> Quota:
        quota = await self._quotas.admit(tenant_id)
        here = sum(live.turn.tenant_id == tenant_id for live in self._live.values())
        if makes_session and 0 < quota.concurrent_turns < here * SHARE_HERE:
            # `open` is what decides; this spares the user the empty session of a refused turn.
            quota.refuse_turns(await self._turns.count_running(tenant_id))
        return quota

    def _launch(self, live: LiveTurn) -> None:
        turn_id = live.turn.turn_id
        self._live[turn_id] = live
        # A task of its own with the owner's rights and no deadline: it outlives the call.
        with bind(owner_context(live.turn)):
            # house: naked-task: kept in _tasks until done; drain waits for it or stops it
            task = asyncio.create_task(self._runner.run(live), name=f"turn-{turn_id}")
        self._tasks[turn_id] = task
        task.add_done_callback(lambda _: self._forget(turn_id))

    def _forget(self, turn_id: str) -> None:
        self._live.pop(turn_id, None)
        self._tasks.pop(turn_id, None)

    async def _wait_local(self, turn_id: str, timeout_seconds: float) -> None:
        task = self._tasks.get(turn_id)
        if task is not None:
            await asyncio.wait({task}, timeout=timeout_seconds)

    async def _stop_local(self, turn_id: str) -> None:
        live, task = self._live.get(turn_id), self._tasks.get(turn_id)
        if live is None or task is None:
            return
        live.close()
        task.cancel()
        await asyncio.wait({task})

    async def _tell_cancelled(self, turn: Turn) -> None:
        try:
            last = await self._journal.last_sequence(turn.tenant_id, turn.turn_id)
            event = Cancelled(turn.cancelled_by)
            entry = Entry(turn.turn_id, last + 1, turn.attempt, self._now(), event)
            await self._journal.append(turn, [entry])
        except ServiceError as error:
            # Readers learn it from the stored turn instead.
            logger.warning("cancel_not_journaled", turn_id=turn.turn_id, reason=error.reason)

    async def _after_the_end(self, turn: Turn, position: int) -> AsyncIterator[Entry]:
        # The last event may have been journaled between the read and the look at the turn.
        entries = await self._read(turn, position, wait_seconds=0)
        if entries:
            for entry in entries:
                yield entry
            if entries[-1].is_last:
                return
            position = entries[-1].sequence
        if turn.last_sequence and position >= turn.last_sequence:
            if position > turn.last_sequence:
                raise CursorExpired(after_sequence=str(position))
            return
        for entry in retell(turn, position):
            yield entry

    async def _read(
        self, turn: Turn, position: int, *, wait_seconds: float = READ_WAIT_SECONDS
    ) -> Sequence[Entry]:
        if turn.state is not TurnState.RUNNING:
            wait_seconds = 0
        try:
            return await self._journal.read(
                turn.tenant_id, turn.turn_id, after_sequence=position, wait_seconds=wait_seconds
            )
        except Unavailable:
            await asyncio.sleep(min(wait_seconds, 0.5))
            return []


def owner_context(turn: Turn) -> CallContext:
    """Return the call context of work for the turn's owner: its rights, no deadline.

    Ids of the call that started the turn are kept; a taken-over turn gets its own id as both.
    """
    outer = current()
    return CallContext(
        principal=turn.owner,
        deadline=None,
        request_id=outer.request_id or turn.turn_id,
        correlation_id=outer.correlation_id or turn.turn_id,
        traceparent=outer.traceparent,
    )


def _title(question: str) -> str:
    line = " ".join(question.split())
    return line if len(line) <= TITLE_CHARACTERS else line[: TITLE_CHARACTERS - 1] + "…"
