"""Steps that wait: their outcome when all is there, else the task is left."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from meshwright_orchestrator.domain.errors import BudgetExceeded, JournalUnreadable
from meshwright_orchestrator.domain.models import Task
from meshwright_orchestrator.domain.suspension import Asking, Handed, Suspended, Suspension
from meshwright_orchestrator.domain.task_budget import TreeUse
from meshwright_orchestrator.domain.waiting import (
    MAX_CHILDREN,
    MAX_QUESTIONS,
    Asked,
    ChildSpec,
    Delegated,
    Question,
    Slept,
    child_id,
    interrupt_id,
)
from meshwright_orchestrator.domain.waits import Waits

T = TypeVar("T")


class Bench(Protocol):
    """What of a workbench is used here. `step`: the number of the step being done."""

    @property
    def task(self) -> Task:
        """The task."""
        ...

    @property
    def step(self) -> int:
        """The step."""
        ...

    async def written(self, write: Callable[[], Awaitable[T]]) -> T:
        """Do it, again and again while the database is away and the lease is good."""
        ...


async def ask(bench: Bench, waits: Waits, questions: Sequence[Question]) -> Asked:
    """Return the answers to all questions. Raises: Suspended, LeaseLost, JournalUnreadable."""
    task, step = bench.task, bench.step
    if not 1 <= len(questions) <= MAX_QUESTIONS:
        raise JournalUnreadable(f"a step asks 1 to {MAX_QUESTIONS} questions")
    # A task that never waited has asked nothing: the database need not be looked at.
    if task.waits:
        answers = await bench.written(lambda: waits.answers(task, step))
        if len(answers) == len(questions):
            return Asked(tuple(questions), tuple(answers))
    asked = tuple(
        Asking(interrupt_id(task.task_id, step, index), question)
        for index, question in enumerate(questions)
    )
    raise Suspended(Suspension(step, questions=asked))


async def delegate(bench: Bench, waits: Waits, children: Sequence[ChildSpec]) -> Delegated:
    """Return how all children ended.

    Raises: Suspended, LeaseLost, JournalUnreadable; BudgetExceeded for too deep or large a tree.
    """
    task, step = bench.task, bench.step
    if not 1 <= len(children) <= MAX_CHILDREN:
        raise JournalUnreadable(f"a step has 1 to {MAX_CHILDREN} children")
    ids = [child_id(task.task_id, step, index) for index in range(len(children))]
    if task.waits:
        results = await bench.written(lambda: waits.child_results(task, ids))
        if len(results) == len(ids):
            return Delegated(tuple(results))
    use = TreeUse(task.spec.budget)
    if task.root_task_id:
        use = await bench.written(lambda: waits.tree(task))
    if task.depth >= use.budget.depth:
        raise BudgetExceeded(budget="max_depth", limit=str(use.budget.depth))
    # Other tasks of the tree may begin some meanwhile: accepting them counts once more, exactly.
    if use.tasks + len(children) > use.budget.tasks:
        raise BudgetExceeded(budget="max_tasks", limit=str(use.budget.tasks))
    handed = tuple(Handed(*pair) for pair in zip(ids, children, strict=True))
    raise Suspended(Suspension(step, children=handed))


async def sleep(bench: Bench, waits: Waits, seconds: float) -> Slept:
    """Return when the time has come. Raises: Suspended, LeaseLost."""
    task, step = bench.task, bench.step
    if task.waits and await bench.written(lambda: waits.slept(task, step)):
        return Slept(seconds)
    raise Suspended(Suspension(step, seconds=seconds))
