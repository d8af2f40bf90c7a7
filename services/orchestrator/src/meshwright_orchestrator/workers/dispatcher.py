"""Fills the work queues from the stored tasks, again and again for as long as a task waits.

Nothing is lost with a queue: a task is due again some time after its queue confirmed to have it,
and at once when the queues were found empty. A worker that gets a task a second time finds it
taken.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Final

import structlog

from meshwright_common.dispatch.lanes import MAX_RETRIES, Lane, retry_delay_seconds
from meshwright_common.dispatch.ports import WorkItem, WorkQueue
from meshwright_common.errors import ServiceError
from meshwright_orchestrator.domain.backlog import Backlog
from meshwright_orchestrator.domain.models import Priority
from meshwright_orchestrator.domain.ports import Backlogs, Waiting
from meshwright_orchestrator.workers import metrics

logger = structlog.get_logger(__name__)

BATCH: Final = 256
HOLD_SECONDS: Final = 15.0
"""A picked task is picked by nobody else for this long: longer than a put may take."""
LOOK_SECONDS: Final = 1.0
"""How often due tasks are looked for when nothing is submitted here."""
ROOM_SECONDS: Final = 0.03
"""How often room in the queues is looked for while more waits than they are given."""
GATHER_SECONDS: Final = 0.01
"""Pause after a pass: one costs the same for a task as for many, and those who submit pay for it.
A task that comes alone does not wait for it."""
AGAIN_SECONDS: Final = 0.5
COUNT_TO: Final = 100_000
MOST_DOUBLINGS: Final = 4
OFFERS: Final = MAX_RETRIES + 1
"""How often an interactive task is offered."""
WITHOUT_END: Final = 2**31 - 1


class Dispatcher:
    """Puts the tasks that are due into their queues."""

    def __init__(
        self,
        backlogs: Backlogs,
        backlog: Backlog,
        queue: WorkQueue,
        *,
        interactive_seconds: float,
        redispatch_seconds: float,
        most_of_lane: int,
    ) -> None:
        self._backlogs = backlogs
        self._backlog = backlog
        self._queue = queue
        self._interactive_seconds = interactive_seconds
        self._redispatch_seconds = redispatch_seconds
        self._most_of_lane = most_of_lane
        self._losses = 0

    @property
    def _most_offers(self) -> int:
        return OFFERS if self._interactive_seconds else WITHOUT_END

    async def run(self) -> None:
        """Dispatch for as long as this process lives."""
        while True:
            # Cleared first: what is submitted while we look sets it again.
            self._backlog.grown.clear()
            try:
                await self._notice_losses()
                picked = await self._backlogs.pick(
                    BATCH,
                    hold_seconds=HOLD_SECONDS,
                    most_offers=self._most_offers,
                    most_of_lane=self._most_of_lane,
                )
                if picked:
                    await self._dispatch(picked)
                if len(picked) == BATCH:
                    continue
                if picked:
                    await asyncio.sleep(GATHER_SECONDS)
            except ServiceError as error:
                logger.warning("dispatch_failed", reason=error.reason, error=error.message)
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            if self._backlog.size > self._most_of_lane:
                # What is submitted here has to wait for room like the rest.
                await asyncio.sleep(ROOM_SECONDS)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._backlog.grown.wait()

    async def keep_count(self) -> None:
        """Count what waits and end what waits in vain, for as long as this process lives."""
        while True:
            try:
                submitted_before = self._backlog.submitted
                sizes = await self._backlogs.count(COUNT_TO)
                self._backlog.counted(sum(sizes.values()), submitted_before)
                for lane in Lane:
                    metrics.BACKLOG.labels(lane.value).set(sizes.get(Priority(lane.value), 0))
                await self._expire()
            except ServiceError as error:
                logger.warning("backlog_not_counted", reason=error.reason)
            await asyncio.sleep(LOOK_SECONDS)

    async def _expire(self) -> None:
        for tenant_id, task_id in await self._backlogs.overdue(BATCH, self._most_offers):
            if await self._backlogs.expire(tenant_id, task_id, self._most_offers):
                logger.info("task_expired_in_queue", tenant_id=tenant_id, task_id=task_id)

    async def _notice_losses(self) -> None:
        # Found out before anything is put: what is put afterwards is not lost.
        await self._queue.put(())
        losses = self._queue.losses
        if losses == self._losses:
            return
        again = 0
        while count := await self._backlogs.dispatch_again(BATCH):
            again += count
        self._losses = losses
        logger.info("queues_refilled", count=again)

    async def _dispatch(self, picked: Sequence[Waiting]) -> None:
        """Put the tasks, over and over while the queues are away and the tasks are ours.

        Raises: ServiceError when they are no longer ours, or the database is away.
        """
        items = [self._item(task) for task in picked]
        until = time.monotonic() + HOLD_SECONDS / 2
        while True:
            try:
                await self._queue.put(items)
                break
            except ServiceError as error:
                metrics.FAILED_DISPATCHES.inc()
                if time.monotonic() >= until:
                    raise
                logger.info("dispatch_interrupted", reason=error.reason, count=len(items))
            await asyncio.sleep(AGAIN_SECONDS)
        await self._backlogs.dispatched([(task, self._again_seconds(task)) for task in picked])

    def _item(self, task: Waiting) -> WorkItem:
        expires = max(task.remaining_seconds, 0.0)
        if task.priority is Priority.HIGH and self._interactive_seconds:
            expires = min(expires, self._interactive_seconds)
        return WorkItem(
            tenant_id=task.tenant_id,
            item_id=task.task_id,
            kind=task.kind,
            lane=Lane(task.priority.value),
            expires_in_seconds=expires,
            trace=task.trace,
        )

    def _again_seconds(self, task: Waiting) -> float:
        if task.priority is not Priority.HIGH or not self._interactive_seconds:
            return float(self._redispatch_seconds * 2 ** min(task.dispatches, MOST_DOUBLINGS))
        if task.dispatches + 1 >= OFFERS:
            return self._interactive_seconds
        return self._interactive_seconds + retry_delay_seconds(task.dispatches + 1)
