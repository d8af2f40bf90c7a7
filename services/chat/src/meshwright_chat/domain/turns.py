"""Turns: opened once, working on the floor of some process, followed by anybody who may."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import structlog

from meshwright_chat.domain.concurrency import ConcurrencyPolicy, Places
from meshwright_chat.domain.errors import (
    NotTheLastTurn,
    TurnInProgress,
    TurnNotEnded,
    TurnNotFound,
)
from meshwright_chat.domain.following import TurnReaders
from meshwright_chat.domain.models import (
    Cancelled,
    Entry,
    Turn,
    TurnEvent,
    TurnRequest,
    TurnState,
)
from meshwright_chat.domain.ports import Journal, Quota, Quotas, Sessions, Turns
from meshwright_chat.domain.working import TurnFloor, owner_context
from meshwright_common.context import Principal, bind
from meshwright_common.errors import QuotaExceeded, ServiceError, Unavailable
from meshwright_common.ids import new_id

logger = structlog.get_logger(__name__)

DEFAULT_AGENT: Final = "rag"
TITLE_CHARACTERS: Final = 80
SHARE_HERE: Final = 4
"""With a fourth of a tenant's turns in this process, it may have no room for another one."""
SUSPENSION: Final = "suspension"
"""Who cancelled the turns of a suspended tenant."""
CANCEL_WAIT_SECONDS: Final = 1.0
"""How long cancelling waits for a turn whose task was not yet accepted."""
FENCE_SECONDS: Final = 3.0
"""How long cancelling waits for whoever can fence the turn's task: a process that died starts
within seconds, and callers wait for five."""
PLACE_ATTEMPTS: Final = 5
"""How often a place is tried for that others take and leave at the same moment."""
STOP_LOOKS: Final = 40
STOP_LOOK_SECONDS: Final = 0.25
"""How often, and how long each time, cancelling looks at a turn that is being stopped."""


class TurnDesk:
    """Opens turns, and does with them what callers ask for."""

    def __init__(  # noqa: PLR0913 - one argument for each thing that it works with
        self,
        *,
        floor: TurnFloor,
        readers: TurnReaders,
        turns: Turns,
        places: Places,
        sessions: Sessions,
        journal: Journal,
        quotas: Quotas,
        now: Callable[[], datetime],
        suspension_seconds: float,
    ) -> None:
        self._floor = floor
        self._readers = readers
        self._turns = turns
        self._places = places
        self._sessions = sessions
        self._journal = journal
        self._quotas = quotas
        self._now = now
        self._suspension_seconds = suspension_seconds

    # --- for callers ---------------------------------------------------------------------------

    async def start(
        self,
        caller: Principal,
        request: TurnRequest,
        policy: ConcurrencyPolicy = ConcurrencyPolicy.REJECT,
    ) -> Turn:
        """Store a turn and begin or queue it, or return the one its request_id stands for.

        Raises: NotFound (SESSION_NOT_FOUND), TurnInProgress, TurnQueueFull, RequestIdReused,
        Unavailable; QuotaExceeded; FailedPrecondition (TENANT_SUSPENDED).
        """
        self._refuse_while_draining()
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
        return await self._open(turn, request, policy, quota)

    async def regenerate(self, caller: Principal, turn_id: str, request_id: str) -> Turn:
        """Begin a turn that answers the question of a finished one in its place.

        Raises: TurnNotFound, TurnNotEnded, NotTheLastTurn; as `start`.
        """
        self._refuse_while_draining()
        old = await self.get(caller, turn_id)
        request = TurnRequest(
            session_id=old.session_id,
            question=old.question,
            agent=old.agent,
            model=old.model,
            knowledge_base_ids=old.knowledge_base_ids,
            request_id=request_id,
            metadata={},
            regenerates=old.turn_id,
        )
        known = request_id and await self._turns.known(caller.tenant_id, caller.subject, request)
        if known:
            return known
        if not old.state.is_final:
            raise TurnNotEnded
        if old.withdrawn or not await self._places.is_last(old):
            raise NotTheLastTurn
        quota = await self._admit(caller.tenant_id, makes_session=False)
        turn = Turn(
            turn_id=new_id(),
            session_id=old.session_id,
            owner=caller,
            agent=old.agent,
            model=old.model,
            knowledge_base_ids=old.knowledge_base_ids,
            question=old.question,
            state=TurnState.RUNNING,
            attempt=1,
            lease_epoch=1,
            created_at=self._now(),
            regenerates=old.turn_id,
        )
        return await self._open(turn, request, ConcurrencyPolicy.REJECT, quota)

    async def _open(
        self, turn: Turn, request: TurnRequest, policy: ConcurrencyPolicy, quota: Quota
    ) -> Turn:
        """Give the turn its session's place, or what `policy` says when that is taken."""
        for _ in range(PLACE_ATTEMPTS):
            try:
                opened = await self._turns.open(turn, request, quota)
            except TurnInProgress:
                if policy is ConcurrencyPolicy.REJECT:
                    raise
            else:
                if not opened.existed:
                    self._floor.begin(opened.turn)
                return opened.turn
            behind = replace(turn, state=TurnState.QUEUED, attempt=0, was_queued=True)
            joined = await self._places.join(behind, request, policy, quota)
            if joined is None:
                # It became free meanwhile.
                continue
            if joined.queued is not None:
                await self._tell(joined.turn, 0, joined.queued)
            if joined.stopping is not None:
                self._floor.settle(joined.stopping)
            return joined.turn
        raise Unavailable("turns of this session come and go too fast", retry_after_seconds=1.0)

    def _refuse_while_draining(self) -> None:
        if self._floor.draining:
            raise Unavailable("this process is shutting down", retry_after_seconds=1.0)

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

    async def rate(self, caller: Principal, turn_id: str, rating: int, comment: str) -> Turn:
        """Store what the caller thinks of a finished turn. Raises: TurnNotFound, TurnNotEnded."""
        return await self._places.rate(await self.get(caller, turn_id), rating, comment)

    async def cancel(self, caller: Principal, turn_id: str) -> Turn:
        """Stop a turn; returns when nothing more can start for it. Raises: TurnNotFound."""
        found = await self.get(caller, turn_id)
        return await self._cancel(found, caller.subject)

    async def _cancel(self, found: Turn, cancelled_by: str) -> Turn:
        if found.state is TurnState.STOPPING:
            return await self._stopped(found)
        if found.state.is_final:
            if found.is_cancelled and (found.task_id or self._floor.is_fencing(found.turn_id)):
                # An earlier call may have got no further than that.
                await self._fence(found)
            return found
        turn_id = found.turn_id
        if found.regenerates:
            # What it answers again leaves the conversation whatever becomes of the new answer.
            await self._sessions.withdraw(found.session_id, found.regenerates, forget=False)
        turn = await self._turns.cancel(found.tenant_id, turn_id, cancelled_by)
        if turn.state is not TurnState.CANCELLED:
            return turn if turn.state.is_final else await self._stopped(turn)
        if not turn.task_id:
            # The task may be on its way: its runner meets the fence and cancels it.
            await self._floor.wait(turn_id, CANCEL_WAIT_SECONDS)
        await self._fence(turn)
        await self._floor.stop(turn_id)
        await self._tell_cancelled(turn)
        return turn

    async def _fence(self, turn: Turn) -> None:
        """Return when nothing can start any more for a cancelled turn. Raises: Unavailable."""
        if not await self._floor.fence(turn, FENCE_SECONDS):
            raise Unavailable("the turn is still being stopped", retry_after_seconds=1.0)

    async def _stopped(self, turn: Turn) -> Turn:
        """Wait for a turn that another one replaces: it is being stopped already."""
        for _ in range(STOP_LOOKS):
            await asyncio.sleep(STOP_LOOK_SECONDS)
            turn = await self._turns.find(turn.tenant_id, turn.turn_id)
            if turn.state.is_final:
                return turn
        raise Unavailable("the turn is still being stopped", retry_after_seconds=1.0)

    async def follow(
        self, caller: Principal, turn_id: str, after_sequence: int
    ) -> AsyncIterator[Entry]:
        """Yield the turn's events after `after_sequence`, to its last.

        Raises: TurnNotFound; CursorExpired when the turn has ended before that position.
        """
        async for entry in self.follow_turn(await self.get(caller, turn_id), after_sequence):
            yield entry

    def follow_turn(self, turn: Turn, after_sequence: int = 0) -> AsyncIterator[Entry]:
        """Do as `follow`, for a turn that was just read."""
        return self._readers.follow(turn, after_sequence)

    # --- for the process -------------------------------------------------------------------------

    async def end_suspended(self) -> None:
        """Cancel the turns of suspended tenants, for as long as this process lives."""
        while True:
            await asyncio.sleep(self._suspension_seconds)
            running = [live.turn for live in self._floor.live.values()]
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

    # --- inside ----------------------------------------------------------------------------------

    async def _admit(self, tenant_id: str, *, makes_session: bool) -> Quota:
        quota = await self._quotas.admit(tenant_id)
        here = sum(live.turn.tenant_id == tenant_id for live in self._floor.live.values())
        if makes_session and 0 < quota.concurrent_turns < here * SHARE_HERE:
            # `open` is what decides; this spares the user the empty session of a refused turn.
            quota.refuse_turns(await self._turns.count_running(tenant_id))
        return quota

    async def _tell_cancelled(self, turn: Turn) -> None:
        try:
            last = await self._journal.last_sequence(turn.tenant_id, turn.turn_id)
        except Unavailable as error:
            # Readers learn it from the stored turn instead.
            logger.warning("cancel_not_journaled", turn_id=turn.turn_id, reason=error.reason)
            return
        await self._tell(turn, last, Cancelled(turn.cancelled_by))

    async def _tell(self, turn: Turn, last: int, event: TurnEvent) -> None:
        entry = Entry(turn.turn_id, last + 1, turn.attempt, self._now(), event)
        try:
            await self._journal.append(turn, [entry])
        except ServiceError as error:
            logger.warning("event_not_journaled", turn_id=turn.turn_id, reason=error.reason)


def _title(question: str) -> str:
    line = " ".join(question.split())
    return line if len(line) <= TITLE_CHARACTERS else line[: TITLE_CHARACTERS - 1] + "…"
