"""Waiting, as it is stored: leaving a task, what has come since, and waking it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from meshwright_orchestrator.domain.journal import Step
from meshwright_orchestrator.domain.models import Task, TaskState, Usage
from meshwright_orchestrator.domain.ports import NewTask, Queueing
from meshwright_orchestrator.domain.suspension import Asking, Suspension
from meshwright_orchestrator.domain.task_budget import Spent, TreeUse
from meshwright_orchestrator.domain.waiting import Answer, ChildResult


@dataclass(frozen=True, slots=True)
class Leaving:
    """What is stored when a task begins to wait. `steps`: those not journaled yet.

    `usage` and `spent` are the task's with these steps, `new_spent` is that of these steps alone.
    `kind`: the queue in which it waits for a worker when it is woken.
    """

    suspension: Suspension
    steps: tuple[Step, ...]
    usage: Usage
    spent: Spent
    new_spent: Spent
    kind: str = ""
    children: tuple[tuple[NewTask, Queueing], ...] = ()


@dataclass(frozen=True, slots=True)
class ChildState:
    """Where a child of a task stands."""

    task_id: str
    agent: str
    state: TaskState


class Waits(Protocol):
    """Tasks that wait. Whatever brings the last thing queues the task in the same transaction."""

    async def suspend(self, task: Task, leaving: Leaving) -> None:
        """Write steps, questions and children, give the lease up and set WAITING, all or nothing.

        When all is there already the task is queued at once. Raises: LeaseLost; BudgetExceeded.
        """
        ...

    async def answers(self, task: Task, step: int) -> Sequence[Answer]:
        """Return the answers to what the step asked, in its order; none while some are open."""
        ...

    async def child_results(self, task: Task, ids: Sequence[str]) -> Sequence[ChildResult]:
        """Return how these children ended, in this order; those that have not are left out."""
        ...

    async def slept(self, task: Task, step: int) -> bool:
        """Return whether the step began to sleep and its time has come."""
        ...

    async def tree(self, task: Task) -> TreeUse:
        """Return budget and use of the tree that the task belongs to."""
        ...

    async def pending(
        self, tenant_id: str, task_id: str
    ) -> tuple[Sequence[Asking], Sequence[ChildState]]:
        """Return the open questions of a task, and its children, whatever their states."""
        ...

    async def due(self, most: int) -> Sequence[tuple[str, str]]:
        """Return (tenant_id, task_id) of up to `most` tasks with something that is due."""
        ...

    async def bring_due(self, tenant_id: str, task_id: str) -> bool:
        """Close what nobody answered in time, and wake the task if nothing is left to wait for.

        Returns whether this call woke it.
        """
        ...

    async def overdue(self, most: int) -> Sequence[tuple[str, str]]:
        """Return (tenant_id, task_id) of up to `most` waiting tasks whose time is over."""
        ...

    async def expire(self, tenant_id: str, task_id: str) -> bool:
        """End a waiting task whose time is over, and cancel what it waits for."""
        ...
