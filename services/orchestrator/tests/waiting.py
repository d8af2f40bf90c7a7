"""Tasks that wait, made by hand for tests of the store."""

from dataclasses import dataclass, replace

from meshwright_common.context import CallContext, Principal, bind
from meshwright_common.ids import new_id
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.encryption import key_ring
from meshwright_orchestrator.adapters.postgres_interrupts import PostgresInterrupts
from meshwright_orchestrator.adapters.postgres_tasks import PostgresTasks
from meshwright_orchestrator.adapters.postgres_waits import PostgresWaits
from meshwright_orchestrator.domain.conversation import JsonObject, Message, Role, Text
from meshwright_orchestrator.domain.decider import ENGINE_VERSION, KNOWN_VERSIONS
from meshwright_orchestrator.domain.interrupts import OpenFilter
from meshwright_orchestrator.domain.journal import ModelAnswered, Step
from meshwright_orchestrator.domain.models import (
    Limits,
    Priority,
    Result,
    Task,
    TaskSpec,
    TaskState,
    Usage,
)
from meshwright_orchestrator.domain.ports import Ending, NewTask, Queueing
from meshwright_orchestrator.domain.spending import spent_in
from meshwright_orchestrator.domain.suspension import Asking, Handed, Suspension
from meshwright_orchestrator.domain.task_budget import NO_BUDGET, TaskBudget
from meshwright_orchestrator.domain.waiting import (
    ChildSpec,
    InterruptKind,
    Question,
    child_id,
    interrupt_id,
)
from meshwright_orchestrator.domain.waits import Leaving

OWNER = Principal(new_id(), new_id(), "user", frozenset({"agent:execute"}), ("member",))
QUESTION = Question(InterruptKind.QUESTION, "Which one?")
APPROVAL = Question(InterruptKind.APPROVAL, "May it?")


def model_step(number: int, *, tokens: int = 0, cost: int = 0) -> Step:
    """Return the step of a model that used so much."""
    usage = Usage(prompt_tokens=tokens, cost_micro_usd=cost)
    return Step(number, 1, ModelAnswered("text", usage=usage))


@dataclass(frozen=True)
class Store:
    """The stored tasks, as one process sees them."""

    database: Database
    tasks: PostgresTasks
    waits: PostgresWaits
    interrupts: PostgresInterrupts

    @classmethod
    def on(cls, database: Database) -> "Store":
        """Return the store in a database."""
        ring = key_ring(database)
        return cls(
            database,
            PostgresTasks(database, ring, lease_seconds=60, default_seconds=300),
            PostgresWaits(database, ring, question_seconds=600),
            PostgresInterrupts(database, ring),
        )

    async def accept(self, budget: TaskBudget = NO_BUDGET) -> Task:
        """Accept a task that runs."""
        spec = TaskSpec("chat", (Message(Role.USER, (Text("What?"),)),), budget=budget)
        new = NewTask(new_id(), OWNER, "correlation", spec, Limits(), ENGINE_VERSION, "")
        with bind(CallContext(principal=OWNER)):
            return (await self.tasks.accept(new)).task

    async def ask(
        self, task: Task, *questions: Question, steps: tuple[Step, ...] = ()
    ) -> list[str]:
        """Let the task wait for answers, after `steps`; return the ids of the questions."""
        step = task.step_count + len(steps) + 1
        asked = tuple(
            Asking(interrupt_id(task.task_id, step, index), question)
            for index, question in enumerate(questions)
        )
        await self.suspend(task, Suspension(step, questions=asked), steps=steps)
        return [one.interrupt_id for one in asked]

    async def delegate(self, task: Task, count: int = 1) -> list[str]:
        """Let the task wait for children; return their ids."""
        step = task.step_count + 1
        messages = (Message(Role.USER, (Text("Part of it?"),)),)
        handed = tuple(
            Handed(child_id(task.task_id, step, index), ChildSpec("chat", messages))
            for index in range(count)
        )
        await self.suspend(task, Suspension(step, children=handed))
        return [one.task_id for one in handed]

    async def suspend(
        self, task: Task, suspension: Suspension, *, steps: tuple[Step, ...] = ()
    ) -> None:
        """Let the task wait."""
        children = tuple(
            (
                NewTask(
                    handed.task_id,
                    OWNER,
                    task.correlation_id,
                    TaskSpec(handed.spec.agent, handed.spec.messages),
                    Limits(),
                    ENGINE_VERSION,
                    "",
                    parent_task_id=task.task_id,
                    root_task_id=task.root_task_id or task.task_id,
                    depth=task.depth + 1,
                ),
                Queueing("chat", Priority.NORMAL, ""),
            )
            for handed in suspension.children
        )
        spent = spent_in(steps)
        leaving = Leaving(suspension, steps, task.usage, spent, spent, children=children)
        with bind(CallContext(principal=OWNER)):
            await self.waits.suspend(task, leaving)

    async def answer(self, task_id: str, interrupt: str, value: JsonObject) -> bool:
        """Answer a question; say whether that was the answer."""
        asked = await self.interrupts.find(OWNER.tenant_id, task_id, interrupt)
        assert asked is not None
        with bind(CallContext(principal=OWNER)):
            return await self.interrupts.answer(OWNER.tenant_id, asked, value, new_id())

    async def open_of(self, task_id: str) -> list[str]:
        """Return the ids of the task's open questions."""
        found = await self.interrupts.open_of(OWNER.tenant_id, OpenFilter(task_id=task_id))
        return [one.interrupt_id for one in found]

    async def find(self, task_id: str) -> Task:
        """Return a task as it stands."""
        return await self.tasks.find(OWNER.tenant_id, task_id)

    async def claim(self, task_id: str) -> Task | None:
        """Let a worker claim a task; None when there was nothing to claim."""
        claimed = await self.tasks.claim(OWNER.tenant_id, [task_id], KNOWN_VERSIONS)
        return claimed[0] if claimed else None

    async def run(self, task_id: str) -> Task:
        """Claim a task that is queued."""
        claimed = await self.claim(task_id)
        assert claimed is not None
        return claimed

    async def complete(self, task: Task, answer: str = "Done.") -> None:
        """End a running task with a result."""
        with bind(CallContext(principal=OWNER)):
            await self.tasks.end(task, Ending(TaskState.COMPLETED, result=Result(answer)))

    async def cancel(self, task_id: str) -> Task:
        """Cancel a task."""
        with bind(CallContext(principal=OWNER)):
            return await self.tasks.cancel(OWNER.tenant_id, task_id)

    async def states(self, *task_ids: str) -> list[TaskState]:
        """Return the states of tasks."""
        return [(await self.find(one)).state for one in task_ids]

    async def changed(self, statement: str, *values: object) -> None:
        """Change rows behind the store's back, such as a time."""
        async with unit_of_work(self.database, OWNER.tenant_id) as connection:
            await connection.execute(statement, OWNER.tenant_id, *values)

    async def transitions(self, task_id: str) -> list[str]:
        """Return the states that a task was in."""
        async with unit_of_work(self.database, OWNER.tenant_id) as connection:
            rows = await connection.fetch(
                "SELECT state FROM orchestrator.transitions WHERE tenant_id = $1 AND task_id = $2"
                ' ORDER BY "number"',
                OWNER.tenant_id,
                task_id,
            )
        return [row["state"] for row in rows]


def as_it_was(task: Task) -> Task:
    """Return a task without what changes as time passes."""
    return replace(task, remaining_seconds=0)
