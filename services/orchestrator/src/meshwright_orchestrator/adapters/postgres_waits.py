"""Tasks that wait, in PostgreSQL. Locks come in one order: the tree, then the task (0012)."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from meshwright_common.encryption import KeyRing, SealedJson, TenantKeys
from meshwright_common.events import notification
from meshwright_common.resilience.failpoints import failpoint
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work, unscoped
from meshwright_orchestrator.adapters import news, step_rows, task_rows, trees
from meshwright_orchestrator.adapters import wait_statements as statements
from meshwright_orchestrator.adapters.task_ends import SOURCE, announce
from meshwright_orchestrator.domain.conversation import JsonObject
from meshwright_orchestrator.domain.errors import EXPIRED, BudgetExceeded, LeaseLost
from meshwright_orchestrator.domain.models import Failure, Result, Task, TaskState
from meshwright_orchestrator.domain.ports import NewTask, Queueing
from meshwright_orchestrator.domain.suspension import Asking
from meshwright_orchestrator.domain.task_budget import Spent, TaskBudget, TreeUse
from meshwright_orchestrator.domain.waiting import Answer, ChildResult, InterruptKind
from meshwright_orchestrator.domain.waits import ChildState, Leaving
from meshwright_orchestrator.wire.questions import interrupt_notice

INTERRUPTS: Final = "orchestrator.interrupts"
NOTHING_INSERTED: Final = "INSERT 0 0"
"""How PostgreSQL says that the questions were there already: their owner has been told."""
REFUSED: Final[JsonObject] = {"approved": False, "comment": ""}
"""What an approval that nobody gave comes to."""


class PostgresWaits:
    """Waiting: see the port. Seconds count on the database's clock."""

    def __init__(self, database: Database, ring: KeyRing, *, question_seconds: float) -> None:
        self._database = database
        self._ring = ring
        self._question_seconds = question_seconds

    async def suspend(self, task: Task, leaving: Leaving) -> None:
        keys = await self._ring.keys_of(task.tenant_id)
        root = task.root_task_id
        async with unit_of_work(self._database, task.tenant_id) as connection:
            if leaving.children and not root:
                root = task.task_id
                await _plant(connection, task, leaving)
            await trees.lock(connection, task.tenant_id, [root])
            row = await self._leave(connection, keys, task, leaving, root)
            if row is None:
                raise LeaseLost
            if task.root_task_id:
                await trees.count(connection, task.tenant_id, [(root, leaving.new_spent)])
            if leaving.children:
                await _hand_over(connection, keys, row, root, leaving.children)
            if leaving.suspension.questions:
                await self._ask(connection, keys, task, leaving)
            await connection.fetchval(statements.WAKE, task.tenant_id, task.task_id)
            news.tell_of(connection, task.task_id)
        failpoint("task-suspended")

    async def _leave(
        self, connection: Connection, keys: TenantKeys, task: Task, leaving: Leaving, root: str
    ) -> Record | None:
        suspension, steps = leaving.suspension, leaving.steps
        sleeps = not suspension.questions and not suspension.children
        return await connection.fetchrow(
            statements.SUSPEND,
            task.tenant_id,
            task.task_id,
            task.lease_epoch,
            steps[-1].number if steps else 0,
            suspension.step,
            suspension.seconds if sleeps else None,
            bool(suspension.questions),
            root or None,
            task_rows.usage_record(leaving.usage),
            *task_rows.step_columns(keys, [(task.task_id, step) for step in steps]),
            leaving.kind or None,
        )

    async def _ask(
        self, connection: Connection, keys: TenantKeys, task: Task, leaving: Leaving
    ) -> None:
        questions = leaving.suspension.questions
        sealed = SealedJson(keys, INTERRUPTS)
        status = await connection.execute(
            statements.ASK,
            task.tenant_id,
            task.task_id,
            leaving.suspension.step,
            task.owner.subject,
            [asking.interrupt_id for asking in questions],
            list(range(len(questions))),
            [asking.question.kind.value for asking in questions],
            [
                sealed.seal("question", asking.interrupt_id, asdict(asking.question))
                for asking in questions
            ],
            [asking.question.expires_seconds or self._question_seconds for asking in questions],
        )
        if status != NOTHING_INSERTED:
            kinds = [asking.question.kind for asking in questions]
            await notification.tell(
                connection,
                interrupt_notice(task, kinds),
                source=SOURCE,
                tenant_id=task.tenant_id,
                correlation_id=task.correlation_id,
            )

    async def answers(self, task: Task, step: int) -> Sequence[Answer]:
        keys = await self._ring.keys_of(task.tenant_id)
        async with unit_of_work(self._database, task.tenant_id) as connection:
            rows = await connection.fetch(statements.ANSWERS, task.tenant_id, task.task_id, step)
        if any(row["state"] == "open" for row in rows):
            return ()
        return [_answer_from(row, keys) for row in rows]

    async def child_results(self, task: Task, ids: Sequence[str]) -> Sequence[ChildResult]:
        keys = await self._ring.keys_of(task.tenant_id)
        async with unit_of_work(self._database, task.tenant_id) as connection:
            rows = await connection.fetch(
                statements.ENDED_CHILDREN, task.tenant_id, task.task_id, list(ids)
            )
        ended = {row["task_id"]: task_rows.task_from(row, keys) for row in rows}
        return [_child_result(ended[one]) for one in ids if one in ended]

    async def slept(self, task: Task, step: int) -> bool:
        async with unit_of_work(self._database, task.tenant_id) as connection:
            return bool(
                await connection.fetchval(statements.SLEPT, task.tenant_id, task.task_id, step)
            )

    async def tree(self, task: Task) -> TreeUse:
        async with unit_of_work(self._database, task.tenant_id) as connection:
            row = await connection.fetchrow(statements.TREE, task.tenant_id, task.root_task_id)
        if row is None:
            # Only erasure takes a tree away, and its tasks with it.
            raise LeaseLost
        return TreeUse(_budget_from(row), Spent(row["steps"], row["tokens"], row["cost_micro_usd"]))

    async def pending(
        self, tenant_id: str, task_id: str
    ) -> tuple[Sequence[Asking], Sequence[ChildState]]:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            asked = await connection.fetch(statements.OPEN, tenant_id, task_id)
            children = await connection.fetch(statements.CHILDREN, tenant_id, task_id)
        sealed = SealedJson(keys, INTERRUPTS)
        return (
            [
                Asking(
                    row["interrupt_id"],
                    step_rows.question_from(
                        sealed.open("question", row["interrupt_id"], row["question"])
                    ),
                )
                for row in asked
            ],
            [ChildState(row["task_id"], row["agent"], TaskState(row["state"])) for row in children],
        )

    async def due(self, most: int) -> Sequence[tuple[str, str]]:
        return await self._names("SELECT * FROM orchestrator.due_waits($1)", most)

    async def overdue(self, most: int) -> Sequence[tuple[str, str]]:
        return await self._names("SELECT * FROM orchestrator.overdue_waits($1)", most)

    async def _names(self, statement: str, most: int) -> Sequence[tuple[str, str]]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(statement, most)
        return [(row["tenant_id"], row["task_id"]) for row in rows]

    async def bring_due(self, tenant_id: str, task_id: str) -> bool:
        async with unit_of_work(self._database, tenant_id) as connection:
            await connection.execute(statements.LOCK, tenant_id, task_id)
            await connection.execute(statements.RUN_OUT, tenant_id, task_id)
            woken = bool(await connection.fetchval(statements.WAKE, tenant_id, task_id))
            if woken:
                news.tell_of(connection, task_id)
        return woken

    async def expire(self, tenant_id: str, task_id: str) -> bool:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            await connection.execute(statements.LOCK, tenant_id, task_id)
            if await connection.fetchrow(statements.OVERDUE, tenant_id, task_id) is None:
                return False
            ended = await trees.end_family(
                connection, keys, task_id, state=TaskState.EXPIRED, failure=EXPIRED
            )
            await announce(connection, trees.with_context(ended))
            for task in ended:
                news.tell(connection, news.CANCELLED, task)
        return True


async def _plant(connection: Connection, task: Task, leaving: Leaving) -> None:
    budget, spent = task.spec.budget, leaving.spent
    await connection.execute(
        statements.PLANT,
        task.tenant_id,
        task.task_id,
        budget.max_steps,
        budget.max_tokens,
        budget.max_cost_micro_usd,
        budget.depth,
        budget.tasks,
        spent.steps,
        spent.tokens,
        spent.cost_micro_usd,
    )


async def _hand_over(
    connection: Connection,
    keys: TenantKeys,
    parent: Record,
    root: str,
    children: Sequence[tuple[NewTask, Queueing]],
) -> None:
    """Accept the children that are not there yet. Raises: BudgetExceeded."""
    accepted = 0
    for new, queueing in children:
        spec, messages, digest = task_rows.sealed_request(keys, new.task_id, new.spec)
        accepted += (
            await connection.fetchval(
                statements.HAND_OVER,
                keys.tenant_id,
                new.task_id,
                new.owner.subject,
                task_rows.owner_record(new.owner),
                new.correlation_id,
                new.spec.agent,
                new.spec.session_id or None,
                spec,
                messages,
                task_rows.limits_record(new.limits),
                new.engine_version,
                digest,
                parent["deadline_at"],
                new.max_seconds or None,
                queueing.kind,
                parent["lane"],
                queueing.trace,
                new.parent_task_id,
                root,
                new.depth,
            )
            is not None
        )
    if accepted and not await connection.fetchval(statements.GROW, keys.tenant_id, root, accepted):
        tree = await connection.fetchrow(statements.TREE, keys.tenant_id, root)
        limit = "" if tree is None else str(tree["max_tasks"])
        raise BudgetExceeded(budget="max_tasks", limit=limit)


def _budget_from(row: Record) -> TaskBudget:
    return TaskBudget(
        max_steps=row["max_steps"],
        max_tokens=row["max_tokens"],
        max_cost_micro_usd=row["max_cost_micro_usd"],
        max_depth=row["max_depth"],
        max_tasks=row["max_tasks"],
    )


def _answer_from(row: Record, keys: TenantKeys) -> Answer:
    if row["answer"] is None:
        value = REFUSED if row["kind"] == InterruptKind.APPROVAL else {}
        return Answer(row["interrupt_id"], value, expired=True)
    stored = SealedJson(keys, INTERRUPTS).open("answer", row["interrupt_id"], row["answer"])
    return Answer(row["interrupt_id"], stored["value"], stored["answered_by"])


def _child_result(task: Task) -> ChildResult:
    result = task.result or Result("", usage=task.usage)
    failure: Failure | None = task.failure
    return ChildResult(
        task_id=task.task_id,
        agent=task.spec.agent,
        state=task.state,
        answer=result.answer,
        output=result.output,
        failure=failure,
        citations=result.citations,
        usage=result.usage,
    )
