"""Leaving a task that waits: its steps, questions and children are stored, its lease ends."""

import structlog

from meshwright_orchestrator.domain.children import ChildTasks
from meshwright_orchestrator.domain.events import Child, Interrupted
from meshwright_orchestrator.domain.models import TaskState
from meshwright_orchestrator.domain.spending import spent_in
from meshwright_orchestrator.domain.suspension import Suspension
from meshwright_orchestrator.domain.waits import Leaving, Waits
from meshwright_orchestrator.domain.workbench import Workbench

logger = structlog.get_logger(__name__)


class WaitingRoom:
    """Where attempts leave their tasks."""

    def __init__(self, waits: Waits, children: ChildTasks) -> None:
        self._waits = waits
        self._children = children

    async def leave(self, bench: Workbench, suspension: Suspension) -> None:
        """Let the task wait, and tell its readers for what.

        Raises: LeaseLost; BudgetExceeded when the tree has no room for the children.
        """
        task, steps = bench.task, bench.unwritten()

        async def suspend() -> None:
            leaving = Leaving(
                suspension,
                steps,
                bench.usage,
                bench.spent,
                spent_in(steps),
                kind=await self._children.kind_of(task),
                children=await self._children.of(task, suspension.children),
            )
            await self._waits.suspend(task, leaving)

        await bench.written(suspend)
        bench.checkpoint(steps)
        for asking in suspension.questions:
            bench.tell(Interrupted(asking.interrupt_id, asking.question))
        for handed in suspension.children:
            bench.tell(Child(handed.task_id, handed.spec.agent, TaskState.QUEUED))
        logger.info(
            "task_waits",
            task_id=task.task_id,
            step=suspension.step,
            questions=len(suspension.questions),
            children=len(suspension.children),
        )
