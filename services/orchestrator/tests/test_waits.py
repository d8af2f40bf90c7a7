"""Tasks that wait, on real PostgreSQL: left whole, woken once, ended together."""

import asyncio
from dataclasses import replace

import pytest
import pytest_asyncio

from meshwright_common.testing.engines import ServiceDatabase
from meshwright_orchestrator.domain.errors import BudgetExceeded, LeaseLost
from meshwright_orchestrator.domain.models import TaskState, Usage
from meshwright_orchestrator.domain.suspension import Suspension
from meshwright_orchestrator.domain.task_budget import Spent, TaskBudget
from meshwright_orchestrator.domain.waiting import Answer, child_id
from services.orchestrator.tests.waiting import (
    APPROVAL,
    OWNER,
    QUESTION,
    Store,
    model_step,
)

pytestmark = pytest.mark.asyncio

YES = {"approved": True}


@pytest_asyncio.fixture
async def store(service_database: ServiceDatabase) -> Store:
    """The store, on a fresh database."""
    return Store.on(await service_database("meshwright_orchestrator"))


@pytest.mark.promise("WAIT-01")
async def test_a_task_that_waits_has_its_steps_and_no_owner(store: Store) -> None:
    task = await store.accept()
    (asked,) = await store.ask(task, QUESTION, steps=(model_step(1, tokens=7),))
    found, steps = await store.tasks.read(OWNER.tenant_id, task.task_id, after_step=0)
    assert (found.state, found.waits, found.step_count) == (TaskState.WAITING, 1, 1)
    assert [step.number for step in steps] == [1]
    assert await store.open_of(task.task_id) == [asked]
    assert not found.lease_expired
    assert await store.claim(task.task_id) is None
    assert await store.tasks.renew([task]) == frozenset()
    with pytest.raises(LeaseLost):
        await store.tasks.commit_steps(task, [model_step(2)], Usage())


async def test_whoever_lost_the_lease_asks_nothing(store: Store) -> None:
    task = await store.accept()
    older = replace(task, lease_epoch=0)
    with pytest.raises(LeaseLost):
        await store.ask(older, QUESTION)
    with pytest.raises(LeaseLost):
        await store.delegate(older)
    assert await store.open_of(task.task_id) == []
    assert await store.states(task.task_id) == [TaskState.RUNNING]


async def test_the_last_answer_wakes_the_task_and_the_step_finds_all_of_them(store: Store) -> None:
    task = await store.accept()
    first, second = await store.ask(task, APPROVAL, QUESTION)
    assert await store.answer(task.task_id, second, {"answer": "b"})
    assert await store.states(task.task_id) == [TaskState.WAITING]
    assert await store.answer(task.task_id, first, YES)
    woken = await store.run(task.task_id)
    assert (woken.attempt, woken.waits) == (2, 1)
    assert await store.waits.answers(woken, 1) == [
        Answer(first, YES, OWNER.subject),
        Answer(second, {"answer": "b"}, OWNER.subject),
    ]
    assert await store.transitions(task.task_id) == ["running", "waiting", "queued", "running"]


@pytest.mark.promise("WAIT-02")
async def test_a_step_done_again_asks_nothing_twice(store: Store) -> None:
    """A worker that dies after the wake and before its next step: the step begins anew."""
    task = await store.accept()
    asked = await store.ask(task, QUESTION)
    await store.answer(task.task_id, asked[0], {"answer": "a"})
    woken = await store.run(task.task_id)
    assert await store.ask(woken, QUESTION) == asked
    # All is there: it is queued in the transaction in which it would have waited.
    again = await store.run(task.task_id)
    assert await store.waits.answers(again, 1) == [Answer(asked[0], {"answer": "a"}, OWNER.subject)]


@pytest.mark.promise("WAIT-02")
async def test_racing_answers_wake_a_task_once(store: Store) -> None:
    task = await store.accept()
    asked = await store.ask(task, *[QUESTION] * 8)
    answered = await asyncio.gather(
        *(store.answer(task.task_id, one, {"answer": "a"}) for one in asked for _ in range(2))
    )
    assert sum(answered) == len(asked)
    assert (await store.transitions(task.task_id)).count("queued") == 1


@pytest.mark.promise("WAIT-02")
async def test_racing_ends_of_children_wake_their_parent_once(store: Store) -> None:
    parent = await store.accept()
    ids = await store.delegate(parent, 6)
    children = [await store.run(one) for one in ids]
    other = await Store.on(store.database).run((await store.delegate(await store.accept()))[0])
    await asyncio.gather(*map(store.complete, children), store.complete(other))
    assert (await store.transitions(parent.task_id)).count("queued") == 1
    woken = await store.run(parent.task_id)
    results = await store.waits.child_results(woken, ids)
    assert [(one.task_id, one.answer) for one in results] == [(one, "Done.") for one in ids]


@pytest.mark.promise("WAIT-02")
async def test_racing_sweeps_wake_a_sleeper_once_and_not_before_its_time(store: Store) -> None:
    task = await store.accept()
    await store.suspend(task, Suspension(1, seconds=600))
    assert await store.waits.due(10) == []
    assert not await store.waits.bring_due(OWNER.tenant_id, task.task_id)
    await store.changed("UPDATE orchestrator.tasks SET wait_until = now() WHERE tenant_id = $1")
    assert await store.waits.due(10) == [(OWNER.tenant_id, task.task_id)]
    woken = await asyncio.gather(
        *(store.waits.bring_due(OWNER.tenant_id, task.task_id) for _ in range(5))
    )
    assert sum(woken) == 1
    claimed = await store.run(task.task_id)
    assert await store.waits.slept(claimed, 1)
    assert not await store.waits.slept(claimed, 2)


async def test_a_step_that_sleeps_again_after_a_crash_sleeps_no_longer(store: Store) -> None:
    task = await store.accept()
    await store.suspend(task, Suspension(1, seconds=600))
    await store.changed("UPDATE orchestrator.tasks SET wait_until = now() WHERE tenant_id = $1")
    await store.waits.bring_due(OWNER.tenant_id, task.task_id)
    await store.suspend(await store.run(task.task_id), Suspension(1, seconds=600))
    assert await store.states(task.task_id) == [TaskState.QUEUED]


@pytest.mark.promise("WAIT-06")
async def test_a_question_that_nobody_answered_in_time_is_refused(store: Store) -> None:
    task = await store.accept()
    approval, question = await store.ask(task, replace(APPROVAL, expires_seconds=30), QUESTION)
    await store.answer(task.task_id, question, {"answer": "a"})
    await store.changed(
        "UPDATE orchestrator.interrupts SET expires_at = now() WHERE tenant_id = $1"
    )
    assert not await store.answer(task.task_id, approval, YES)
    assert await store.waits.due(10) == [(OWNER.tenant_id, task.task_id)]
    assert await store.waits.bring_due(OWNER.tenant_id, task.task_id)
    refused, answered = await store.waits.answers(await store.run(task.task_id), 1)
    assert refused == Answer(approval, {"approved": False, "comment": ""}, expired=True)
    assert answered.value == {"answer": "a"}


@pytest.mark.promise("WAIT-06")
async def test_time_of_people_is_none_of_the_tasks(store: Store) -> None:
    """Nor of those that wait for it; and while it waits nobody of them expires."""
    parent = await store.accept()
    (child,) = await store.delegate(parent)
    (asked,) = await store.ask(await store.run(child), QUESTION)
    await store.changed(
        "UPDATE orchestrator.tasks SET waiting_since = waiting_since - interval '1 day',"
        " deadline_at = deadline_at - interval '1 day' WHERE tenant_id = $1"
    )
    assert await store.waits.overdue(10) == []
    assert not await store.waits.expire(OWNER.tenant_id, parent.task_id)
    await store.answer(child, asked, {"answer": "a"})
    assert 290 < (await store.run(child)).remaining_seconds <= 301
    assert (await store.find(parent.task_id)).remaining_seconds > 290


async def test_a_waiting_task_whose_time_is_over_ends_with_all_it_waits_for(store: Store) -> None:
    parent = await store.accept()
    ids = await store.delegate(parent, 2)
    running = await store.run(ids[0])
    await store.changed("UPDATE orchestrator.tasks SET deadline_at = now() WHERE tenant_id = $1")
    assert await store.waits.overdue(10) == [(OWNER.tenant_id, parent.task_id)]
    expired = await asyncio.gather(
        *(store.waits.expire(OWNER.tenant_id, parent.task_id) for _ in range(3))
    )
    assert sum(expired) == 1
    assert await store.states(parent.task_id, *ids) == [
        TaskState.EXPIRED,
        TaskState.CANCELLED,
        TaskState.CANCELLED,
    ]
    with pytest.raises(LeaseLost):
        await store.complete(running)


async def test_a_cancelled_task_ends_with_its_questions(store: Store) -> None:
    task = await store.accept()
    (asked,) = await store.ask(task, QUESTION)
    assert (await store.cancel(task.task_id)).state is TaskState.CANCELLED
    assert await store.open_of(task.task_id) == []
    assert not await store.answer(task.task_id, asked, {"answer": "late"})
    assert await store.states(task.task_id) == [TaskState.CANCELLED]


@pytest.mark.promise("WAIT-04")
async def test_a_cancelled_tree_ends_as_a_whole(store: Store) -> None:
    root = await store.accept()
    first, second = await store.delegate(root, 2)
    middle = await store.run(first)
    (leaf,) = await store.delegate(middle)
    (asked,) = await store.ask(await store.run(second), QUESTION)
    running = await store.run(leaf)
    await store.cancel(root.task_id)
    assert set(await store.states(root.task_id, first, second, leaf)) == {TaskState.CANCELLED}
    assert not await store.answer(second, asked, {"answer": "late"})
    with pytest.raises(LeaseLost):
        await store.complete(running)


async def test_a_cancelled_child_is_a_result(store: Store) -> None:
    parent = await store.accept()
    (child,) = await store.delegate(parent)
    await store.cancel(child)
    woken = await store.run(parent.task_id)
    (result,) = await store.waits.child_results(woken, [child])
    assert result.state is TaskState.CANCELLED
    assert result.failure is not None


async def test_racing_ends_and_cancel_of_a_tree_leave_nothing_behind(store: Store) -> None:
    for _ in range(5):
        root = await store.accept()
        ids = await store.delegate(root, 4)
        children = [await store.run(one) for one in ids]
        await asyncio.gather(
            *map(store.complete, children), store.cancel(root.task_id), return_exceptions=True
        )
        states = await store.states(root.task_id, *ids)
        assert states[0] is TaskState.CANCELLED
        assert set(states[1:]) <= {TaskState.COMPLETED, TaskState.CANCELLED}


@pytest.mark.promise("WAIT-03")
async def test_a_tree_counts_each_step_once(store: Store) -> None:
    root = await store.accept(TaskBudget(max_tokens=100))
    (child,) = await store.delegate(root)
    task = await store.run(child)
    for _ in range(2):  # The answer to the first was lost.
        await store.tasks.commit_steps(task, [model_step(1, tokens=60, cost=5)], Usage())
    use = await store.waits.tree(task)
    assert use.spent == Spent(1, 60, 5)
    assert use.budget.max_tokens == 100


@pytest.mark.promise("WAIT-03")
async def test_racing_children_count_all_they_use(store: Store) -> None:
    root = await store.accept()
    children = [await store.run(one) for one in await store.delegate(root, 5)]
    await asyncio.gather(
        *(
            store.tasks.commit_steps(child, [model_step(number, tokens=1)], Usage())
            for child in children
            for number in (1, 2)
        )
    )
    assert (await store.waits.tree(children[0])).spent == Spent(10, 10, 0)


async def test_a_tree_has_no_more_tasks_than_it_may(store: Store) -> None:
    root = await store.accept(TaskBudget(max_tasks=3))
    with pytest.raises(BudgetExceeded) as refused:
        await store.delegate(root, 3)
    assert refused.value.metadata == {"budget": "max_tasks", "limit": "3"}
    assert await store.states(root.task_id) == [TaskState.RUNNING]
    assert len(await store.delegate(root, 2)) == 2


async def test_ids_of_children_are_those_of_every_attempt(store: Store) -> None:
    task = await store.accept()
    ids = await store.delegate(task, 2)
    assert ids == [child_id(task.task_id, 1, 0), child_id(task.task_id, 1, 1)]
    # Ordered by time as all ids are, so that lists show them beside their parent.
    assert {one[:13] for one in ids} == {task.task_id[:13]}


async def test_pending_tells_what_a_task_waits_for(store: Store) -> None:
    task = await store.accept()
    (asked,) = await store.ask(task, QUESTION)
    open_questions, children = await store.waits.pending(OWNER.tenant_id, task.task_id)
    assert [(one.interrupt_id, one.question) for one in open_questions] == [(asked, QUESTION)]
    assert children == []
