"""The turns that this process works on: launched, leased, taken over, stopped."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import structlog

from meshwright_chat.domain.concurrency import Places
from meshwright_chat.domain.errors import LeaseLost
from meshwright_chat.domain.following import TurnReaders
from meshwright_chat.domain.live_turn import LiveTurn
from meshwright_chat.domain.models import Failed, Turn, TurnState
from meshwright_chat.domain.ports import Agents, Turns
from meshwright_chat.domain.settling import Settler
from meshwright_chat.domain.turn_runner import TurnRunner
from meshwright_common.context import CallContext, bind, current
from meshwright_common.errors import (
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServiceError,
    Unavailable,
)

logger = structlog.get_logger(__name__)

TAKE_OVER_BATCH: Final = 20
QUEUE_SWEEP_SECONDS: Final = 0.25
"""How often it is looked whether a turn may begin, or go on, that somebody here watches."""
WATCHED_LOOK_SECONDS: Final = 1.0
"""How often the task of a waiting turn is looked at that somebody here watches."""
FENCE_AGAIN_SECONDS: Final = 0.2
"""How often the task of a cancelled turn is tried to be cancelled while nobody can be asked."""
FENCE_LAST_SECONDS: Final = 330.0
"""No task of a turn lasts longer than that."""
QUEUE_TIMEOUT: Final = Failed(
    "TURN_QUEUE_TIMEOUT", "the turn waited too long for the one before it to end", retryable=True
)


@dataclass(frozen=True, slots=True)
class Cadence:
    """How often, in seconds, leases are renewed, and lost and waiting turns looked for."""

    renew_seconds: float
    sweep_seconds: float


class TurnFloor:
    """Where turns of this process run. `live` are those, by id."""

    def __init__(  # noqa: PLR0913 - one argument for each thing that it works with
        self,
        *,
        runner: TurnRunner,
        settler: Settler,
        turns: Turns,
        places: Places,
        agents: Agents,
        readers: TurnReaders,
        live: dict[str, LiveTurn],
        cadence: Cadence,
    ) -> None:
        self._runner = runner
        self._settler = settler
        self._turns = turns
        self._places = places
        self._agents = agents
        self._readers = readers
        self._live = live
        self._cadence = cadence
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._settling: dict[str, asyncio.Task[None]] = {}
        self._fencing: dict[str, asyncio.Task[None]] = {}
        self._sweep = asyncio.Event()
        self.draining = False

    @property
    def live(self) -> Mapping[str, LiveTurn]:
        """The turns that run here, by id."""
        return MappingProxyType(self._live)

    def begin(self, turn: Turn) -> None:
        """Begin a turn that was just stored for this process."""
        self._launch(self._runner.begin(turn))

    def settle(self, turn: Turn) -> None:
        """Begin to end a turn that this process has stopped."""
        if turn.turn_id in self._settling:
            return
        with bind(owner_context(turn)):
            # house: naked-task: kept in _settling until done; drain waits for it or stops it
            task = asyncio.create_task(self._settle(turn), name=f"settle-{turn.turn_id}")
        self._settling[turn.turn_id] = task
        task.add_done_callback(lambda _: self._settling.pop(turn.turn_id, None))

    async def _settle(self, turn: Turn) -> None:
        live = self._live.get(turn.turn_id)
        await self.stop(turn.turn_id)
        try:
            await self._settler.settle(turn, live)
        except LeaseLost:
            return
        except ServiceError as error:
            # The lease runs out, and whoever takes the turn over does it again.
            logger.warning("turn_not_settled", turn_id=turn.turn_id, reason=error.reason)
            return
        # The place is free: the next one has it, and need not wait for the next round.
        self._sweep.set()

    async def fence(self, turn: Turn, timeout_seconds: float) -> bool:
        """Cancel the task of a cancelled turn, also one that nobody told us of; return whether that
        is done after so long.

        If not, it is tried on: nobody has to ask again. Raises: ServiceError.
        """
        task = self._fencing.get(turn.turn_id)
        if task is None:
            with bind(owner_context(turn)):
                # house: naked-task: kept in _fencing until done; drain waits for it or stops it
                task = asyncio.create_task(
                    self._fence(turn, self._live.get(turn.turn_id)), name=f"fence-{turn.turn_id}"
                )
            self._fencing[turn.turn_id] = task
            task.add_done_callback(lambda _: self._fencing.pop(turn.turn_id, None))
        await asyncio.wait({task}, timeout=timeout_seconds)
        if task.done():
            task.result()
        return task.done()

    def is_fencing(self, turn_id: str) -> bool:
        """Return whether the task of a cancelled turn is still to be cancelled here."""
        return turn_id in self._fencing

    async def _fence(self, turn: Turn, live: LiveTurn | None) -> None:
        try:
            async with asyncio.timeout(FENCE_LAST_SECONDS):
                while True:
                    try:
                        await self._settler.fence(turn, live)
                    except Unavailable:
                        await asyncio.sleep(FENCE_AGAIN_SECONDS)
                    else:
                        return
        except (InvalidArgument, PermissionDenied) as error:
            # What its owner may not begin does not begin.
            logger.warning("turn_had_no_task", turn_id=turn.turn_id, reason=error.reason)
        except (TimeoutError, ServiceError) as error:
            logger.warning("turn_not_fenced", turn_id=turn.turn_id, error=str(error))
            raise Unavailable("the task of the turn could not be cancelled") from error

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
        if self._readers.of_queued:
            self._sweep.set()

    async def wait(self, turn_id: str, timeout_seconds: float) -> None:
        """Wait for a turn to end here, if it runs here."""
        task = self._tasks.get(turn_id)
        if task is not None:
            await asyncio.wait({task}, timeout=timeout_seconds)

    async def stop(self, turn_id: str) -> None:
        """Stop working on a turn here, if it runs here; its row is left as it is."""
        live, task = self._live.get(turn_id), self._tasks.get(turn_id)
        if live is None or task is None:
            return
        live.close()
        task.cancel()
        await asyncio.wait({task})

    async def drain(self, timeout_seconds: float) -> None:
        """Wait for the running turns; the rest is left to another process."""
        self.draining = True
        tasks = {*self._tasks.values(), *self._settling.values(), *self._fencing.values()}
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_seconds)
        for task in (*self._settling.values(), *self._fencing.values()):
            task.cancel()
        for turn_id in list(self._tasks):
            await self.stop(turn_id)

    # --- for as long as the process lives --------------------------------------------------------

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
                    await self.stop(turn.turn_id)

    async def take_over_lost(self) -> None:
        """Own and run turns whose process died, or whose place became free."""
        while True:
            self._sweep.clear()
            try:
                for turn in await self._turns.take_over(TAKE_OVER_BATCH):
                    await self._take_over(turn)
            except ServiceError as error:
                logger.warning("turn_sweep_failed", reason=error.reason)
            seconds = self._cadence.sweep_seconds
            if self._readers.of_queued:
                seconds = min(seconds, QUEUE_SWEEP_SECONDS)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._sweep.wait(), seconds)

    async def _take_over(self, turn: Turn) -> None:
        if turn.state is TurnState.STOPPING:
            self.settle(turn)
            return
        with bind(owner_context(turn)):
            if turn.attempt > 1:
                logger.info("turn_taken_over", turn_id=turn.turn_id, attempt=turn.attempt)
            self._launch(await self._runner.take_up(turn))

    async def look_after_waiting(self) -> None:
        """Let turns go on whose person has answered, and end those that waited too long in line."""
        while True:
            watched = self._readers.waiting
            pause_seconds = self._cadence.sweep_seconds
            if watched:
                pause_seconds = min(pause_seconds, WATCHED_LOOK_SECONDS)
            await asyncio.sleep(pause_seconds)
            try:
                due = await self._places.due(TAKE_OVER_BATCH)
            except ServiceError as error:
                logger.warning("waiting_turns_not_seen", reason=error.reason)
                due = ()
            for turn in (*due, *watched):
                try:
                    await self._look(turn)
                except ServiceError as error:
                    logger.warning(
                        "waiting_turn_not_seen", turn_id=turn.turn_id, reason=error.reason
                    )

    async def _look(self, turn: Turn) -> None:
        with bind(owner_context(turn)):
            if turn.state is TurnState.QUEUED:
                await self._settler.give_up(turn, QUEUE_TIMEOUT)
                return
            pause = turn.pause
            if pause is None or turn.state is not TurnState.WAITING:
                return
            try:
                still = await self._agents.open_interrupts(turn.task_id)
            except NotFound:
                # Its task is gone: going on says so to the turn.
                still = ()
            known = {one.interrupt_id for one in pause.interrupts}
            if still and known.issuperset(one.interrupt_id for one in still):
                await self._places.looked(turn, replace(pause, interrupts=still))
            elif (resumed := await self._places.resume(turn)) is not None:
                logger.info("turn_goes_on", turn_id=turn.turn_id)
                self._launch(await self._runner.take_up(resumed))


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
        tracestate=outer.tracestate,
    )
