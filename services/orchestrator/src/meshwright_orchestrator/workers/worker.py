"""Takes tasks from the work queues, claims them, and lets them run.

A task is settled with its queue as soon as it is claimed: from then on its lease brings it back
when this process dies. One that was claimed or ended elsewhere is settled, too, and dropped.
"""

import asyncio
from collections.abc import Sequence
from itertools import groupby
from typing import Final

import structlog

from meshwright_common import kept_trace
from meshwright_common.context import CallContext, bind
from meshwright_common.dispatch.ports import Delivery, Taking, WorkQueue
from meshwright_common.errors import InvalidArgument, ServiceError
from meshwright_common.ids import parse_id
from meshwright_common.registry.load import CallTally
from meshwright_common.resilience.failpoints import failpoint
from meshwright_common.storage.tenancy import retry_conflicts
from meshwright_orchestrator.domain.decider import KNOWN_VERSIONS
from meshwright_orchestrator.domain.journal import Step
from meshwright_orchestrator.domain.models import Task, TaskState
from meshwright_orchestrator.domain.ports import Tasks
from meshwright_orchestrator.domain.workshop import Workshop
from meshwright_orchestrator.workers import metrics

logger = structlog.get_logger(__name__)

MOST_TOGETHER: Final = 64
"""Tasks claimed in one transaction."""
CLAIMERS: Final = 2
"""While one claims, the next takes: the queues are not kept waiting for the database."""


class Worker:
    """Works on submitted tasks, `slots` at a time."""

    def __init__(
        self, tasks: Tasks, workshop: Workshop, queue: WorkQueue, tally: CallTally, *, slots: int
    ) -> None:
        self._tasks = tasks
        self._workshop = workshop
        self._queue = queue
        self._tally = tally
        self._slots = slots
        self._running = 0
        self._claiming = 0
        self._freed = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Take nothing more. What runs is the workshop's to drain."""
        self._stopping.set()

    async def run(self) -> None:
        """Take and begin tasks until stopped."""
        if not self._slots:
            await self._stopping.wait()
            return
        # house: naked-task: ended and awaited below
        working = asyncio.create_task(self._work(), name="worker")
        # house: naked-task: ended and awaited below
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            working.cancel()
            await asyncio.wait({working, stopping})
        if not working.cancelled():
            working.result()

    async def _work(self) -> None:
        async with self._queue.taking() as taking, asyncio.TaskGroup() as group:
            for _ in range(CLAIMERS):
                group.create_task(self._claim(taking))

    async def _claim(self, taking: Taking) -> None:
        while True:
            wanted = await self._reserved()
            try:
                deliveries = await taking.take(wanted)
                # Whole, even when stopped meanwhile: claimed tasks have to be begun.
                await asyncio.shield(self._begin_all(taking, deliveries))
            finally:
                self._claiming -= wanted
                self._freed.set()

    async def _reserved(self) -> int:
        """Wait for free slots; return how many are set aside for the caller."""
        while True:
            self._freed.clear()
            free = min(self._slots - self._running, self._workshop.room) - self._claiming
            if free > 0:
                wanted = min(free, MOST_TOGETHER, max(self._slots // CLAIMERS, 1))
                self._claiming += wanted
                return wanted
            await self._freed.wait()

    async def _begin_all(self, taking: Taking, deliveries: Sequence[Delivery]) -> None:
        by_tenant = sorted(deliveries, key=lambda delivery: delivery.item.tenant_id)
        for tenant_id, group in groupby(by_tenant, key=lambda delivery: delivery.item.tenant_id):
            await self._begin_of(taking, tenant_id, list(group))

    async def _begin_of(
        self, taking: Taking, tenant_id: str, deliveries: Sequence[Delivery]
    ) -> None:
        named = {}
        for delivery in deliveries:
            try:
                named[delivery] = parse_id(delivery.item.item_id, "item_id")
            except InvalidArgument as error:
                await taking.reject(delivery, error.message)
        asked_at = self._workshop.now()
        try:
            claimed = await retry_conflicts(
                lambda: self._tasks.claim(tenant_id, list(named.values()), KNOWN_VERSIONS)
            )
        except ServiceError as error:
            logger.warning("claim_failed", reason=error.reason, count=len(named))
            for delivery in named:
                await taking.retry(delivery, error.reason)
            return
        failpoint("task-claimed")
        traces = {task_id: delivery.item.trace for delivery, task_id in named.items()}
        for task in claimed:
            await self._begin(task, traces[task.task_id], asked_at)
        await taking.ack(list(named))

    async def _begin(self, task: Task, trace: str, asked_at: float) -> None:
        steps: Sequence[Step] = ()
        if task.attempt > 1:
            # It waited, or is begun again: it goes on after what is journaled.
            try:
                _, steps = await self._tasks.read(task.tenant_id, task.task_id, after_step=0)
            except ServiceError as error:
                # Its lease, which nobody renews, brings it back.
                logger.warning("journal_not_read", task_id=task.task_id, reason=error.reason)
                return
        else:
            due_at = max(task.created_at, task.spec.start_time or task.created_at)
            delay = (task.updated_at - due_at).total_seconds()
            metrics.DISPATCH_SECONDS.observe(max(delay, 0.0))
        traceparent, tracestate = kept_trace.parted(trace)
        call = CallContext(request_id=task.task_id, traceparent=traceparent, tracestate=tracestate)
        with bind(call):
            self._workshop.begin(task, steps, asked_at, ended=self._ended)
        self._tally.began()
        self._running += 1

    def _ended(self, state: TaskState | None) -> None:
        self._running -= 1
        self._tally.ended(failed=state is None or state is TaskState.FAILED)
        self._freed.set()
