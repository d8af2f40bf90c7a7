"""The stored tasks on real PostgreSQL: who may write, what is announced, what is seen."""

import asyncio
from dataclasses import replace

import pytest
import pytest_asyncio

from meshwright_common.context import CallContext, Principal, bind
from meshwright_common.ids import new_id
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.encryption import key_ring
from meshwright_common.testing.engines import ServiceDatabase
from meshwright_orchestrator.adapters.postgres_tasks import PostgresTasks
from meshwright_orchestrator.domain.conversation import Image, Message, Role, Text, ToolCall
from meshwright_orchestrator.domain.errors import (
    EXPIRED,
    LeaseLost,
    RequestIdReused,
    TaskNotFound,
)
from meshwright_orchestrator.domain.journal import (
    GraphAnswered,
    ModelAnswered,
    Outcome,
    Recalled,
    Remembered,
    Step,
    ToolResult,
    ToolsAnswered,
)
from meshwright_orchestrator.domain.models import (
    Citation,
    Failure,
    Limits,
    Priority,
    Result,
    Task,
    TaskSpec,
    TaskState,
    Usage,
)
from meshwright_orchestrator.domain.ports import (
    Accepted,
    Ending,
    NewTask,
    Queueing,
    TaskFilter,
)

pytestmark = pytest.mark.asyncio

OWNER = Principal(new_id(), new_id(), "user", frozenset({"agent:execute", "kb:read"}), ("member",))
CITATION = Citation(1, "d", "book", 3, 10, 20, "quote", 0.25, "chunk", ("Part", "Chapter"))
SPEC = TaskSpec(
    agent="chat",
    messages=(
        Message(Role.SYSTEM, (Text("Be good."),)),
        Message(Role.USER, (Image("https://a/b", b"", "image/png"), Image("", b"\x00\xff", "i/p"))),
        Message(Role.ASSISTANT, (), (ToolCall("c", "add", "{"),)),
        Message(Role.TOOL, (Text("3"),), tool_call_id="c"),
        Message(Role.USER, (Text("What?"),), name="ann"),
    ),
    knowledge_base_ids=("a", "b"),
    input={"x": [1.5, None, {"y": "z"}]},
)


@pytest_asyncio.fixture
async def database(service_database: ServiceDatabase) -> Database:
    """The orchestrator's database."""
    return await service_database("meshwright_orchestrator")


@pytest.fixture
def tasks(database: Database) -> PostgresTasks:
    """The tasks in it, with leases of a minute."""
    return PostgresTasks(database, key_ring(database), lease_seconds=60, default_seconds=300)


def short(database: Database) -> PostgresTasks:
    """The same tasks, with leases that are over at once."""
    return PostgresTasks(database, key_ring(database), lease_seconds=0, default_seconds=300)


async def accept(
    tasks: PostgresTasks, *, request_id: str = "", spec: TaskSpec = SPEC, owner: Principal = OWNER
) -> Task:
    """Accept a task of `owner`."""
    new = NewTask(new_id(), owner, "correlation", spec, Limits(), 1, request_id)
    with bind(CallContext(principal=owner)):
        return (await tasks.accept(new)).task


async def outbox(database: Database, owner: Principal = OWNER) -> list[str]:
    """Return the types of the events about tasks."""
    async with unit_of_work(database, owner.tenant_id) as connection:
        rows = await connection.fetch(
            "SELECT headers->>'ce_type' AS type FROM events.outbox"
            " WHERE tenant_id = $1 AND topic = 'task.result' ORDER BY position",
            owner.tenant_id,
        )
    return [row["type"] for row in rows]


async def test_task_comes_back_as_it_was_stored(tasks: PostgresTasks) -> None:
    stored = await accept(tasks)
    found = await tasks.find(OWNER.tenant_id, stored.task_id)
    same = replace(found, remaining_seconds=0, updated_at=stored.updated_at)
    assert same == replace(stored, remaining_seconds=0)
    assert 290 < found.remaining_seconds <= 300
    assert found.owner == OWNER


@pytest.mark.parametrize(
    "outcome",
    [
        Recalled((CITATION,), ("vector",)),
        Recalled(memories=(Remembered("m", "fact", "x", trusted=True),), searched=False),
        ModelAnswered("text\0", "why", (ToolCall("c", "add", "{"),), "length", Usage(1, 2, 3, 4)),
        ToolsAnswered((ToolCall("c", "n", "{}"),), (ToolResult("c", "n", "{}", True, True),), "d"),
        ToolsAnswered((), (ToolResult("c", "n", "3", citations=(CITATION,)),)),
        GraphAnswered("text", {"plan": ["a"]}),
    ],
    ids=["recall", "memory", "model", "tools", "sources", "graph"],
)
async def test_step_comes_back_as_it_was_journaled(tasks: PostgresTasks, outcome: Outcome) -> None:
    task = await accept(tasks)
    await tasks.commit_steps(task, [Step(1, 1, outcome)], Usage(5, 6))
    found, steps = await tasks.read(OWNER.tenant_id, task.task_id, after_step=0)
    assert list(steps) == [Step(1, 1, outcome)]
    assert (found.step_count, found.usage) == (1, Usage(5, 6))
    assert (await tasks.read(OWNER.tenant_id, task.task_id, after_step=1))[1] == []


async def test_step_written_twice_is_there_once(tasks: PostgresTasks) -> None:
    """A commit whose answer was lost is repeated."""
    task = await accept(tasks)
    for _ in range(2):
        await tasks.commit_steps(task, [Step(1, 1, Recalled())], Usage())
    _, steps = await tasks.read(OWNER.tenant_id, task.task_id, after_step=0)
    assert len(steps) == 1


async def test_result_comes_back_as_it_was_stored(tasks: PostgresTasks, database: Database) -> None:
    task = await accept(tasks)
    messages = (Message(Role.ASSISTANT, (Text("Hi \0"),)),)
    result = Result("Hi \0", (CITATION,), messages, Usage(1, 2), {"plan": "x"})
    last = Step(1, 1, ModelAnswered("Hi \0"))
    ending = Ending(TaskState.COMPLETED, result=result, steps=(last,), usage=Usage(1, 2))
    await tasks.end(task, ending)
    found, steps = await tasks.read(OWNER.tenant_id, task.task_id, after_step=0)
    assert (found.state, found.result, list(steps)) == (TaskState.COMPLETED, result, [last])
    assert found.step_count == 1
    assert await outbox(database) == ["agent.task.completed"]


@pytest.mark.parametrize(
    ("state", "failure"),
    [(TaskState.COMPLETED, None), (TaskState.FAILED, Failure("BUDGET_EXCEEDED", "m", False))],
    ids=["completed", "failed"],
)
async def test_owner_of_a_detached_task_is_told_of_its_end_once(
    tasks: PostgresTasks, database: Database, state: TaskState, failure: Failure | None
) -> None:
    """E1: in the transaction of the end, without content; whoever waited for a task saw it."""
    waited, detached = await accept(tasks), replace(await accept(tasks), detached=True)
    ending = Ending(state, result=None if failure else Result("secret"), failure=failure)
    for task in (waited, detached):
        await tasks.end(task, ending)
    with pytest.raises(LeaseLost):
        await tasks.end(detached, ending)
    async with unit_of_work(database, OWNER.tenant_id) as connection:
        rows = await connection.fetch(
            "SELECT topic, partition_key, convert_from(body, 'UTF8')::json AS body"
            " FROM events.outbox WHERE tenant_id = $1 AND topic <> 'audit.log' ORDER BY position",
            OWNER.tenant_id,
        )
    assert [row["topic"] for row in rows] == ["task.result", "task.result", "notification"]
    assert [row["body"]["data"]["detached"] for row in rows[:2]] == [False, True]
    told = rows[2]["body"]["data"]
    assert (told["user_id"], rows[2]["partition_key"]) == (OWNER.subject, OWNER.subject)
    assert (told["kind"], told["resource"]) == (f"task.{state}", f"task/{detached.task_id}")
    assert told["details"]["error_reason"] == ("BUDGET_EXCEEDED" if failure else "")
    assert "secret" not in str(told)


async def test_old_epoch_writes_nothing(tasks: PostgresTasks, database: Database) -> None:
    """R-05: not a step, not an ending, not an event."""
    first = await accept(short(database))
    second = await tasks.take_over(first)
    assert second is not None
    assert (second.attempt, second.lease_epoch) == (2, 2)
    assert second.owner == OWNER
    with pytest.raises(LeaseLost):
        await tasks.commit_steps(first, [Step(1, 1, Recalled())], Usage())
    with pytest.raises(LeaseLost):
        await tasks.end(
            first, Ending(TaskState.EXPIRED, failure=EXPIRED, steps=(Step(1, 1, Recalled()),))
        )
    assert await tasks.renew([first]) == frozenset()
    _, steps = await tasks.read(OWNER.tenant_id, first.task_id, after_step=0)
    assert list(steps) == []
    assert await outbox(database) == []
    await tasks.commit_steps(second, [Step(1, 2, Recalled())], Usage())


async def test_live_lease_is_not_taken_over(tasks: PostgresTasks) -> None:
    task = await accept(tasks)
    assert await tasks.take_over(task) is None
    assert await tasks.take_over_lost(10, (1,)) == []
    assert await tasks.renew([task]) == {task.task_id}


async def test_released_lease_is_taken_over_at_once(tasks: PostgresTasks) -> None:
    task = await accept(tasks)
    await tasks.release([task])
    assert await tasks.take_over_lost(10, (1,)) == [(OWNER.tenant_id, task.task_id)]
    assert await tasks.take_over_lost(10, (1,)) == []


async def test_one_of_many_takes_a_lost_task_over(tasks: PostgresTasks, database: Database) -> None:
    task = await accept(short(database))
    found = await asyncio.gather(
        *(tasks.take_over(task) for _ in range(3)),
        *(tasks.take_over_lost(5, (1,)) for _ in range(3)),
    )
    assert len([one for one in found if one]) == 1


async def test_end_happens_once(tasks: PostgresTasks, database: Database) -> None:
    """O4, R-01: ten endings and cancellations at once leave one state and one event."""
    task = await accept(tasks)
    expire = Ending(TaskState.EXPIRED, failure=EXPIRED)
    with bind(CallContext(principal=OWNER)):
        await asyncio.gather(
            *(tasks.end(task, expire) for _ in range(5)),
            *(tasks.cancel(OWNER.tenant_id, task.task_id) for _ in range(5)),
            return_exceptions=True,
        )
    found = await tasks.find(OWNER.tenant_id, task.task_id)
    assert await outbox(database) == [f"agent.task.{found.state.value}"]


async def test_same_request_at_once_is_one_task(tasks: PostgresTasks) -> None:
    """R-12."""
    made = await asyncio.gather(*(accept(tasks, request_id="r1") for _ in range(8)))
    assert len({task.task_id for task in made}) == 1


async def test_other_tenants_see_nothing(tasks: PostgresTasks, database: Database) -> None:
    task = await accept(tasks, request_id="r1")
    other = replace(OWNER, tenant_id=new_id())
    with pytest.raises(TaskNotFound):
        await tasks.find(other.tenant_id, task.task_id)
    with pytest.raises(TaskNotFound), bind(CallContext(principal=other)):
        await tasks.cancel(other.tenant_id, task.task_id)
    assert await tasks.list(other.tenant_id, TaskFilter()) == []
    assert (await accept(tasks, request_id="r1", owner=other)).task_id != task.task_id
    async with unit_of_work(database, other.tenant_id) as connection:
        # A query that forgets its tenant sees the own tenant's rows only.
        count = await connection.fetchval("SELECT count(*) FROM orchestrator.tasks")
        assert count == 1


async def test_list_filters_by_state_session_and_subject(tasks: PostgresTasks) -> None:
    session_id = new_id()
    plain = await accept(tasks)
    in_session = await accept(tasks, spec=replace(SPEC, session_id=session_id))
    colleague = replace(OWNER, subject=new_id())
    theirs = await accept(tasks, owner=colleague)
    await tasks.end(plain, Ending(TaskState.EXPIRED, failure=EXPIRED))

    async def listed(**wanted: object) -> list[str]:
        found = await tasks.list(OWNER.tenant_id, TaskFilter(**wanted))  # type: ignore[arg-type] # a table of filters
        assert all(task.spec.messages == () for task in found)
        return [task.task_id for task in found]

    assert await listed() == [theirs.task_id, in_session.task_id, plain.task_id]
    assert await listed(states=(TaskState.EXPIRED,)) == [plain.task_id]
    assert await listed(session_id=session_id) == [in_session.task_id]
    assert await listed(subject=colleague.subject) == [theirs.task_id]
    assert await listed(before=in_session.task_id) == [plain.task_id]
    assert await listed(limit=1) == [theirs.task_id]


async def test_only_old_ended_tasks_are_pruned(tasks: PostgresTasks, database: Database) -> None:
    """S13: with their journals; running ones stay however old they are."""
    running = await accept(tasks)
    recent = await accept(tasks)
    old = await accept(tasks)
    for task in (recent, old):
        await tasks.end(
            task, Ending(TaskState.EXPIRED, failure=EXPIRED, steps=(Step(1, 1, Recalled()),))
        )
    async with unit_of_work(database, OWNER.tenant_id) as connection:
        await connection.execute(
            "UPDATE orchestrator.tasks SET ended_at = ended_at - interval '31 days'"
            " WHERE tenant_id = $1 AND task_id = $2",
            OWNER.tenant_id,
            old.task_id,
        )
    assert await tasks.prune(30, 100) == 1
    left = {task.task_id for task in await tasks.list(OWNER.tenant_id, TaskFilter())}
    assert left == {running.task_id, recent.task_id}


async def test_a_surge_of_tasks_shares_transactions(
    tasks: PostgresTasks, database: Database
) -> None:
    """Accepting stays fast at a rate: what comes together is stored by one statement."""
    queueing = Queueing("chat", Priority.NORMAL, "")
    news = [NewTask(new_id(), OWNER, "c", SPEC, Limits(), 1, "") for _ in range(40)]
    with bind(CallContext(principal=OWNER)):
        accepted = await asyncio.gather(*(tasks.enqueue(new, queueing) for new in news))
    assert [one.task.task_id for one in accepted] == [new.task_id for new in news]
    async with unit_of_work(database, OWNER.tenant_id) as connection:
        ids = [new.task_id for new in news]
        rows = await connection.fetch(
            "SELECT t.task_id, t.xmin::text AS stored_by, e.headers->>'tenant_id' AS told_to"
            "  FROM orchestrator.tasks AS t JOIN events.outbox AS e"
            "    ON e.tenant_id = t.tenant_id AND e.xmin = t.xmin"
            "   AND convert_from(e.body, 'UTF8') LIKE '%task/' || t.task_id || '%'"
            " WHERE t.tenant_id = $1 AND t.task_id = ANY ($2)",
            OWNER.tenant_id,
            ids,
        )
    # Each with its audit record, in the transaction that stored it.
    assert sorted(row["task_id"] for row in rows) == sorted(ids)
    assert {row["told_to"] for row in rows} == {OWNER.tenant_id}
    # Some are stored while the next ones are made ready: how many depends on the machine.
    assert len({row["stored_by"] for row in rows}) <= len(news) // 2
    found = await tasks.find(OWNER.tenant_id, ids[0])
    same = replace(found, remaining_seconds=0, updated_at=accepted[0].task.updated_at)
    assert same == replace(accepted[0].task, remaining_seconds=0)


async def test_a_surge_of_steps_shares_transactions_and_not_its_losses(
    tasks: PostgresTasks, database: Database
) -> None:
    """R-05: of tasks that journal together, who lost the lease writes nothing, the others all."""
    working = await asyncio.gather(*(accept(tasks) for _ in range(40)))
    lost = await accept(short(database))
    assert await tasks.take_over(lost) is not None

    async def work(task: Task) -> int:
        for number in range(1, 5):
            await tasks.commit_steps(task, [Step(number, 1, Recalled())], Usage(number))
        return number

    done = await asyncio.gather(*map(work, (lost, *working)), return_exceptions=True)
    assert isinstance(done[0], LeaseLost)
    assert done[1:] == [4] * 40
    found = await asyncio.gather(
        *(tasks.read(OWNER.tenant_id, task.task_id, after_step=0) for task in (lost, *working))
    )
    assert [[step.number for step in steps] for _, steps in found] == [[], *[[1, 2, 3, 4]] * 40]
    assert {(task.step_count, task.usage.prompt_tokens) for task, _ in found[1:]} == {(4, 4)}
    async with unit_of_work(database, OWNER.tenant_id) as connection:
        transactions = await connection.fetchval(
            "SELECT count(DISTINCT xmin::text) FROM orchestrator.steps WHERE tenant_id = $1",
            OWNER.tenant_id,
        )
    assert transactions <= 4 * 40 / 4


async def test_one_request_in_a_surge_is_one_task(tasks: PostgresTasks) -> None:
    queueing = Queueing("chat", Priority.NORMAL, "")
    request_id = new_id()
    news = [NewTask(new_id(), OWNER, "c", SPEC, Limits(), 1, request_id) for _ in range(5)]
    other = NewTask(new_id(), OWNER, "c", replace(SPEC, model="m"), Limits(), 1, request_id)
    with bind(CallContext(principal=OWNER)):
        outcomes = await asyncio.gather(
            *(tasks.enqueue(new, queueing) for new in (*news, other)), return_exceptions=True
        )
    accepted = [one for one in outcomes if isinstance(one, Accepted)]
    refused = [one for one in outcomes if isinstance(one, RequestIdReused)]
    assert len({one.task.task_id for one in accepted}) == 1
    assert [one.existed for one in accepted].count(False) == 1
    assert len(accepted) + len(refused) == len(outcomes)
    assert len(refused) in {1, 5}


async def test_the_tenant_of_a_start_or_a_step_is_gone_after_it(
    tasks: PostgresTasks, database: Database
) -> None:
    """They set the tenant without a transaction of their own: the next caller sees none of it."""
    task = await accept(tasks)
    await tasks.commit_steps(task, [Step(1, 1, Recalled())], Usage())
    for _ in range(10):
        async with database.connection() as connection:
            assert not await connection.fetchval("SELECT current_setting('app.tenant_id', true)")
            assert not await connection.fetchval("SELECT count(*) FROM orchestrator.tasks")
