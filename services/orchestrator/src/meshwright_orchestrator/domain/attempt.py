"""One attempt of a task in this process: its journal and its readers, behind one lease."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import structlog

from meshwright_common.errors import Aborted, DeadlineExceeded, Unavailable
from meshwright_orchestrator.domain.errors import LeaseLost
from meshwright_orchestrator.domain.events import Checkpoint, TaskEvent, retold
from meshwright_orchestrator.domain.journal import ModelAnswered, Outcome, Step, usage_of
from meshwright_orchestrator.domain.lease import Lease
from meshwright_orchestrator.domain.live_task import LiveTask
from meshwright_orchestrator.domain.models import Task, Usage
from meshwright_orchestrator.domain.ports import Tasks
from meshwright_orchestrator.domain.spending import spent_in
from meshwright_orchestrator.domain.task_budget import Spent

logger = structlog.get_logger(__name__)
T = TypeVar("T")

WRITE_AGAIN_SECONDS: Final = 0.3
"""Pause before a write is tried again while the database is away."""


class Attempt:
    """What is written down of an attempt and told of it. `steps`: the journal that it found.

    `usage` and `spent` are the task's so far, with the steps that are held back.
    """

    def __init__(self, task: Task, steps: Sequence[Step], *, tasks: Tasks, lease: Lease) -> None:
        self.task = task
        self.steps = tuple(steps)
        self.lease = lease
        self.live = LiveTask(task.task_id, task.attempt, len(steps))
        self.usage = Usage()
        self.spent = Spent()
        self._tasks = tasks
        self._next = 1
        self._answer_characters = 0
        self._call_ids: set[str] = set()
        self._held: list[Step] = []
        for step in steps:
            self._retell(step)

    def _retell(self, step: Step) -> None:
        events, self._answer_characters = retold(step, self._answer_characters)
        for event in events:
            self.live.tell(step.number, event)
        self._count(step)

    def _count(self, step: Step) -> None:
        if step.number < self._next:
            return
        self._next = step.number + 1
        self.usage += usage_of(step.outcome)
        self.spent += spent_in((step,))
        if isinstance(step.outcome, ModelAnswered):
            self._call_ids.update(call.id for call in step.outcome.tool_calls)

    @property
    def step(self) -> int:
        """The number of the step being done."""
        return self._next

    def hold(self, outcome: Outcome) -> None:
        """Keep the outcome of the step just done, to be journaled together with the next one.

        For steps that only read: doing one again after a crash costs less than a transaction
        before the first token.
        """
        step = self._next_step(outcome)
        self._held.append(step)
        self._count(step)

    def unwritten(self, outcome: Outcome | None = None) -> tuple[Step, ...]:
        """Return the steps that are not journaled yet, that of `outcome` last."""
        if outcome is None:
            return tuple(self._held)
        return (*self._held, self._next_step(outcome))

    def _next_step(self, outcome: Outcome) -> Step:
        return Step(self._next, self.task.attempt, outcome)

    async def commit(self, outcome: Outcome) -> None:
        """Journal the outcome of the step just done. Raises: LeaseLost."""
        steps = self.unwritten(outcome)
        usage = self.usage + usage_of(outcome)
        await self.written(lambda: self._tasks.commit_steps(self.task, steps, usage))
        self.checkpoint(steps)

    def checkpoint(self, steps: Sequence[Step]) -> None:
        """Tell the readers that these steps are journaled, all of them at once."""
        self._held.clear()
        for step in steps:
            _, self._answer_characters = retold(step, self._answer_characters)
            self._count(step)
        if steps:
            last = steps[-1].number
            self.live.tell(last, Checkpoint(last, self._answer_characters))

    async def written(self, write: Callable[[], Awaitable[T]]) -> T:
        """Do `write`, again and again while the database is away and the lease is good.

        Raises: LeaseLost.
        """
        while True:
            self.lease.check()
            try:
                return await write()
            except LeaseLost:
                self.lease.lose()
                raise
            except (Unavailable, DeadlineExceeded, Aborted) as error:
                logger.warning("journal_away", task_id=self.task.task_id, reason=error.reason)
            await asyncio.sleep(WRITE_AGAIN_SECONDS)

    def tell(self, event: TaskEvent) -> None:
        """Tell the readers an event of the step being done."""
        self.live.tell(self._next, event)
