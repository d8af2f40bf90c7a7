"""The tasks that run in this process: begun, kept by their leases, taken over, handed over."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from meshwright_common import kept_trace
from meshwright_common.context import CallContext, bind, current
from meshwright_common.errors import ServiceError
from meshwright_orchestrator.domain.decider import KNOWN_VERSIONS
from meshwright_orchestrator.domain.errors import CANCELLED
from meshwright_orchestrator.domain.journal import Step
from meshwright_orchestrator.domain.lease import Lease
from meshwright_orchestrator.domain.live_task import LiveTask
from meshwright_orchestrator.domain.models import Task, TaskState
from meshwright_orchestrator.domain.ports import Tasks
from meshwright_orchestrator.domain.runner import TaskRunner
from meshwright_orchestrator.domain.waits import Waits
from meshwright_orchestrator.domain.workbench import Peers, Workbench

logger = structlog.get_logger(__name__)

TAKE_OVER_BATCH: Final = 20
PRUNE_BATCH: Final = 500
CANCELLED_KEPT: Final = 10_000
"""A task is begun within moments of being owned: far fewer are cancelled meanwhile."""
PRUNE_PAUSE_SECONDS: Final = 3600.0
STOP_SECONDS: Final = 2.0
"""Within this long the calls of a cancelled task have ended."""
LATE_LOOK_SECONDS: Final = 0.5
"""How often leases are looked at that could not be renewed."""
CONTEXT_GRACE_SECONDS: Final = 0.5
"""Calls to peers get this much more than the task has, so that the task's own clock ends it."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long leases last, how often things are looked at, how much is taken on, and how long
    tasks of nobody who waits wait for tools that are away.
    """

    lease_seconds: float
    renew_seconds: float
    sweep_seconds: float
    max_running: int
    retention_days: int
    away_seconds: float = 0.0


class _Cancelled:
    """The tasks that were cancelled last, as far as this process heard of it."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def note(self, task_id: str) -> None:
        """Remember it, and forget the oldest when there are too many."""
        self._ids[task_id] = None
        if len(self._ids) > CANCELLED_KEPT:
            self._ids.popitem(last=False)

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._ids


@dataclass(frozen=True, slots=True)
class _Running:
    bench: Workbench
    run: asyncio.Task[TaskState | None]


class Workshop:
    """Runs attempts of tasks that this process owns."""

    def __init__(
        self,
        *,
        tasks: Tasks,
        waits: Waits,
        runner: TaskRunner,
        peers: Peers,
        pace: Pace,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tasks = tasks
        self._waits = waits
        self._runner = runner
        self._peers = peers
        self._pace = pace
        self._monotonic = monotonic
        self._running: dict[str, _Running] = {}
        self._look = asyncio.Event()
        self._cancelled = _Cancelled()
        self.draining = False

    @property
    def room(self) -> int:
        """How many more tasks may be taken on."""
        return max(self._pace.max_running - len(self._running), 0)

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be taken on."""
        return not self.room

    def now(self) -> float:
        """Return the moment to count a lease from: take it before asking the database for one."""
        return self._monotonic()

    def live(self, task_id: str) -> LiveTask | None:
        """Return the live side of a task that runs here."""
        running = self._running.get(task_id)
        return None if running is None else running.bench.live

    def begin(
        self,
        task: Task,
        steps: Sequence[Step],
        asked_at: float,
        *,
        ended: Callable[[TaskState | None], None] | None = None,
    ) -> None:
        """Run an attempt that this process owns since `asked_at`, after the journaled steps.

        `ended` is called when it is over, with the state that it ended the task in, if it did.
        One that was cancelled since it was owned is not begun: nothing starts after a cancel.
        """
        if (
            task.state.is_final
            or task.task_id in self._cancelled
            or (task.root_task_id in self._cancelled)
        ):
            logger.info("task_cancelled_before_it_began", task_id=task.task_id)
            if ended is not None:
                ended(None)
            return
        lease = Lease(self._monotonic, self._pace.lease_seconds, asked_at, self._pace.renew_seconds)
        bench = Workbench(
            task,
            steps,
            tasks=self._tasks,
            waits=self._waits,
            peers=self._peers,
            lease=lease,
            away_seconds=self._pace.away_seconds,
        )
        with bind(_owner_context(task)):
            # house: naked-task: outlives the call that began it; drain() and _stop() end it
            run = asyncio.create_task(self._runner.run(bench), name=f"task-{task.task_id}")
        running = _Running(bench, run)
        self._running[task.task_id] = running
        run.add_done_callback(lambda _: self._forget(running))
        if ended is not None:
            run.add_done_callback(lambda run: ended(None if run.cancelled() else run.result()))

    async def take_over(self, task: Task) -> bool:
        """Own and run a task if its lease ran out; return whether it is ours now.

        A task begun by an engine that is not known here is left to processes that know it, until
        its time is over and there is nothing left but to end it.
        """
        if task.engine_version not in KNOWN_VERSIONS and task.remaining_seconds > 0:
            return False
        asked_at = self.now()
        taken = await self._tasks.take_over(task)
        if taken is not None:
            await self._resume(taken.tenant_id, taken.task_id, asked_at)
        return taken is not None

    async def cancel(self, task_id: str) -> None:
        """Tell the readers here that the task was cancelled, and end its calls.

        Those of the tasks below it too, when it is the first of a tree.
        """
        self._cancelled.note(task_id)
        stopped = [
            running
            for running in self._running.values()
            if task_id in (running.bench.task.task_id, running.bench.task.root_task_id)
        ]
        for running in stopped:
            running.bench.tell(CANCELLED)
        await asyncio.gather(*map(_stop, stopped))

    def cancel_soon(self, task_id: str) -> None:
        """Do as `cancel` for a task that was cancelled elsewhere, without waiting."""
        self._cancelled.note(task_id)
        running = self._running.get(task_id)
        if running is not None:
            running.bench.tell(CANCELLED)
            _end_calls(running)

    def look_at_leases(self) -> None:
        """Renew now: something may have been cancelled elsewhere that was not heard here."""
        self._look.set()

    async def keep_leases(self) -> None:
        """Renew the leases of the tasks that run here, and stop those that were lost."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._renew_leases())
            group.create_task(self._stop_the_late())

    async def _renew_leases(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pace.renew_seconds):
                    await self._look.wait()
            self._look.clear()
            mine = list(self._running.values())
            if not mine:
                continue
            asked_at = self._monotonic()
            try:
                ours = await self._tasks.renew([running.bench.task for running in mine])
            except ServiceError as error:
                logger.warning("lease_renewal_failed", reason=error.reason, count=len(mine))
                continue
            for running in mine:
                if running.bench.task.task_id in ours:
                    running.bench.lease.renewed(asked_at)
                else:
                    await _stop(running)

    async def _stop_the_late(self) -> None:
        """End the calls of tasks whose leases could not be renewed in time: those may be lost."""
        while True:
            await asyncio.sleep(min(LATE_LOOK_SECONDS, self._pace.renew_seconds))
            for running in list(self._running.values()):
                if not running.bench.lease.is_good:
                    await _stop(running)

    async def take_over_lost(self) -> None:
        """Own and run tasks whose process died, for as long as this process lives."""
        while True:
            await asyncio.sleep(self._pace.sweep_seconds)
            room = min(self.room, TAKE_OVER_BATCH)
            if self.draining or not room:
                continue
            asked_at = self._monotonic()
            try:
                for tenant_id, task_id in await self._tasks.take_over_lost(room, KNOWN_VERSIONS):
                    await self._resume(tenant_id, task_id, asked_at)
            except ServiceError as error:
                logger.warning("task_sweep_failed", reason=error.reason)

    async def forget_old(self) -> None:
        """Delete tasks that ended longer ago than they are kept."""
        while True:
            deleted = 0
            try:
                deleted = await self._tasks.prune(self._pace.retention_days, PRUNE_BATCH)
            except ServiceError as error:
                logger.warning("task_pruning_failed", reason=error.reason)
            await asyncio.sleep(1.0 if deleted == PRUNE_BATCH else PRUNE_PAUSE_SECONDS)

    async def drain(self, timeout_seconds: float) -> None:
        """Refuse new tasks and wait for the running ones; the rest is left to another process."""
        self.draining = True
        runs = {running.run for running in self._running.values()}
        if runs:
            await asyncio.wait(runs, timeout=timeout_seconds)
        left = list(self._running.values())
        for running in left:
            await _stop(running)
        if left:
            try:
                await self._tasks.release([running.bench.task for running in left])
            except ServiceError as error:
                # The leases run out by themselves, only later.
                logger.warning("lease_release_failed", reason=error.reason, count=len(left))

    async def _resume(self, tenant_id: str, task_id: str, asked_at: float) -> None:
        task, steps = await self._tasks.read(tenant_id, task_id, after_step=0)
        logger.info(
            "task_taken_over",
            tenant_id=tenant_id,
            task_id=task_id,
            attempt=task.attempt,
            resumed_steps=len(steps),
        )
        older = self._running.get(task_id)
        if older is not None:
            # This process itself had lost the lease, by standing still for too long.
            await _stop(older)
        self.begin(task, steps, asked_at)

    def _forget(self, running: _Running) -> None:
        task_id = running.bench.task.task_id
        if self._running.get(task_id) is running:
            del self._running[task_id]


def _end_calls(running: _Running) -> None:
    running.bench.lease.lose()
    running.bench.live.close()
    running.run.cancel()


async def _stop(running: _Running) -> None:
    _end_calls(running)
    await asyncio.wait({running.run}, timeout=STOP_SECONDS)


def _owner_context(task: Task) -> CallContext:
    """Return the context of work for the task's owner: its rights, the task's time."""
    outer = current()
    traceparent, tracestate = kept_trace.parted(task.trace or outer.trace)
    return CallContext(
        principal=task.owner,
        deadline=time.monotonic() + task.remaining_seconds + CONTEXT_GRACE_SECONDS,
        request_id=outer.request_id or task.task_id,
        correlation_id=task.correlation_id,
        traceparent=traceparent,
        tracestate=tracestate,
    )
