"""Tasks for the workers: accepted, dispatched, worked on, followed (R-01, O4, O5, O10)."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from meshwright.orchestrator.v1 import agent_service_pb2, task_pb2
from meshwright_common.dispatch.embedded import EmbeddedWorkQueue
from meshwright_common.dispatch.lanes import Lane
from meshwright_common.dispatch.ports import WorkItem
from meshwright_common.dispatch.status import EmbeddedStatusBoard
from meshwright_common.errors import NotFound, OutOfRange, ResourceExhausted, ServiceError
from meshwright_common.ids import new_id
from meshwright_common.rpc.stream import open_stream
from meshwright_common.settings import DispatchSettings
from meshwright_common.storage.postgres import open_database
from meshwright_common.testing.waiting import eventually
from services.orchestrator.tests.mesh import FAST, Mesh, Stubs, acting, kinds, text_of, user
from services.orchestrator.tests.peers import Say

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]

NOOP = FAST.model_copy(update={"noop_agent": True})
NO_WORKER = NOOP.model_copy(update={"worker_slots": 0})
HIGH, LOW = task_pb2.TASK_PRIORITY_HIGH, task_pb2.TASK_PRIORITY_LOW


async def submit(
    stubs: Stubs,
    mesh: Mesh,
    *,
    agent: str = "noop",
    request_id: str = "",
    question: str = "Go",
    **spec: object,
) -> task_pb2.Task:
    """Submit a task of one question; return it as accepted."""
    asked = agent_service_pb2.SubmitTaskRequest(request_id=request_id)
    asked.spec.agent = agent
    asked.spec.messages.append(user(question))
    for name, value in spec.items():
        if isinstance(value, datetime):
            getattr(asked.spec, name).FromDatetime(value)
        else:
            setattr(asked.spec, name, value)
    with acting(mesh.caller):
        answer: agent_service_pb2.SubmitTaskResponse = await stubs.agents.SubmitTask(asked)
    return answer.task


async def watch(stubs: Stubs, mesh: Mesh, task_id: str, after: int = 0) -> list[task_pb2.TaskEvent]:
    """Follow a task to its end."""
    asked = agent_service_pb2.WatchTaskRequest(task_id=task_id, after_sequence=after)
    with acting(mesh.caller):
        async with open_stream(stubs.agents.WatchTask(asked)) as responses:
            return [response.event async for response in responses]


async def states(mesh: Mesh, task_id: str) -> list[tuple[str, int]]:
    """Return each state that the task was in, with its attempt."""
    rows = await mesh.rows(
        "SELECT state, attempt FROM orchestrator.transitions"
        " WHERE tenant_id = $1 AND task_id = $2 ORDER BY number",
        task_id,
    )
    return [(row["state"], row["attempt"]) for row in rows]


async def ends(mesh: Mesh) -> Counter[str]:
    """Return how many task.result events each task has."""
    return Counter(data["task_id"] for data in await mesh.events() if "step_count" in data)


async def test_submitted_task_is_worked_on_by_a_worker(mesh: Mesh) -> None:
    mesh.models.script = [Say(["Hel", "lo."])]
    async with mesh.process() as stubs:
        task = await submit(stubs, mesh, agent="chat")
        events = await watch(stubs, mesh, task.task_id)
    assert (task.state, task.attempt) == (task_pb2.TASK_STATE_QUEUED, 0)
    assert kinds(events) == ["started", "chunk", "checkpoint", "final"]
    assert text_of(events) == "Hello."
    assert await states(mesh, task.task_id) == [("queued", 0), ("running", 1), ("completed", 1)]
    assert await ends(mesh) == {task.task_id: 1}
    assert [data["action"] for data in await mesh.events("audit.recorded")] == ["task.submitted"]


async def test_same_request_id_is_the_same_task(mesh: Mesh) -> None:
    async with mesh.process(NOOP) as stubs:
        first = await submit(stubs, mesh, request_id="r1")
        await watch(stubs, mesh, first.task_id)
        again = await submit(stubs, mesh, request_id="r1")
        with pytest.raises(ServiceError) as refused:
            await submit(stubs, mesh, request_id="r1", question="Something else")
    assert again.task_id == first.task_id
    assert refused.value.reason == "IDEMPOTENCY_KEY_REUSED"
    assert await ends(mesh) == {first.task_id: 1}


async def test_noop_agent_is_there_only_when_it_is_set(mesh: Mesh) -> None:
    async with mesh.process() as stubs:
        with pytest.raises(NotFound):
            await submit(stubs, mesh)


async def test_task_accepted_while_no_worker_lives_is_done_by_a_later_one(mesh: Mesh) -> None:
    async with mesh.process(NO_WORKER) as stubs:
        accepted = [(await submit(stubs, mesh)).task_id for _ in range(20)]
    async with mesh.process(NOOP) as stubs:
        for task_id in accepted:
            await watch(stubs, mesh, task_id)
    assert await ends(mesh) == dict.fromkeys(accepted, 1)


async def test_delivering_a_task_again_changes_nothing(mesh: Mesh) -> None:
    async with mesh.process(NOOP) as stubs:
        task_id = (await submit(stubs, mesh)).task_id
        await watch(stubs, mesh, task_id)
        async with open_database(mesh.database, "orchestrator") as database:
            queue = EmbeddedWorkQueue(database, ["chat"])
            item = WorkItem(mesh.caller.tenant_id, task_id, "chat", Lane.NORMAL)
            foreign = WorkItem(new_id(), task_id, "chat", Lane.NORMAL)
            unknown = WorkItem(mesh.caller.tenant_id, new_id(), "chat", Lane.NORMAL)
            wrong = WorkItem(mesh.caller.tenant_id, "no id at all", "chat", Lane.NORMAL)
            await queue.put([item, item, foreign, unknown, wrong])
            later = (await submit(stubs, mesh)).task_id
            await watch(stubs, mesh, later)
            dead = [letter.reason for letter in await queue.dead_letters(10)]
    assert await ends(mesh) == {task_id: 1, later: 1}
    assert await states(mesh, task_id) == [("queued", 0), ("running", 1), ("completed", 1)]
    assert len(dead) == 1
    assert dead[0].startswith("item_id")


async def test_task_that_its_queue_lost_is_put_into_it_again(mesh: Mesh) -> None:
    quick = NO_WORKER.model_copy(update={"redispatch_seconds": 1})
    async with mesh.process(quick) as stubs:
        task_id = (await submit(stubs, mesh)).task_id
        await eventually(lambda: dispatched(mesh, 1))
        await lose_all(mesh)
        await eventually(lambda: dispatched(mesh, 2))
    async with mesh.process(NOOP) as stubs:
        await watch(stubs, mesh, task_id)
    assert await ends(mesh) == {task_id: 1}


async def dispatched(mesh: Mesh, times: int) -> bool:
    rows = await mesh.rows("SELECT min(dispatches) AS n FROM orchestrator.tasks WHERE tenant_id=$1")
    return bool(rows[0]["n"] >= times)


async def lose_all(mesh: Mesh) -> None:
    """Take everything out of the queues and forget it."""
    async with open_database(mesh.database, "orchestrator") as database:
        queue = EmbeddedWorkQueue(database, ["chat"])
        async with queue.taking() as taking:
            await taking.ack(await taking.take(1000))


async def test_cancelled_in_the_queue_it_never_begins(mesh: Mesh) -> None:
    async with mesh.process(NO_WORKER) as stubs:
        task_id = (await submit(stubs, mesh)).task_id
        with acting(mesh.caller):
            await stubs.agents.CancelTask(agent_service_pb2.CancelTaskRequest(task_id=task_id))
    async with mesh.process(NOOP) as stubs:
        events = await watch(stubs, mesh, task_id)
        later = (await submit(stubs, mesh)).task_id
        await watch(stubs, mesh, later)
    assert kinds(events) == ["error"]
    assert await states(mesh, task_id) == [("queued", 0), ("cancelled", 0)]
    assert await ends(mesh) == {task_id: 1, later: 1}


async def test_task_whose_deadline_passes_in_the_queue_expires(mesh: Mesh) -> None:
    async with mesh.process(NO_WORKER) as stubs:
        soon = datetime.now(UTC) + timedelta(seconds=0.5)
        task_id = (await submit(stubs, mesh, deadline=soon)).task_id
        events = await watch(stubs, mesh, task_id)
    assert events[-1].error.reason == "TASK_EXPIRED"
    assert await states(mesh, task_id) == [("queued", 0), ("expired", 0)]
    assert await ends(mesh) == {task_id: 1}


async def test_task_that_is_to_begin_later_begins_then(mesh: Mesh) -> None:
    start = datetime.now(UTC) + timedelta(seconds=1.5)
    async with mesh.process(NOOP) as stubs:
        later = await submit(stubs, mesh, start_time=start)
        tomorrow = await submit(stubs, mesh, start_time=start + timedelta(days=1))
        with acting(mesh.caller):
            listed = (await stubs.agents.ListTasks(agent_service_pb2.ListTasksRequest())).tasks
            await stubs.agents.CancelTask(
                agent_service_pb2.CancelTaskRequest(task_id=tomorrow.task_id)
            )
        await watch(stubs, mesh, later.task_id)
        with pytest.raises(ServiceError, match="366 days"):
            await submit(stubs, mesh, start_time=start + timedelta(days=367))
        with pytest.raises(ServiceError, match="after start_time"):
            await submit(stubs, mesh, start_time=start + timedelta(hours=1), deadline=start)
    (row,) = await mesh.rows(
        "SELECT min(changed_at) AS begun FROM orchestrator.transitions"
        " WHERE tenant_id = $1 AND task_id = $2 AND state = 'running'",
        later.task_id,
    )
    assert start <= row["begun"] < start + timedelta(seconds=10)
    assert [one.spec.start_time.ToDatetime(tzinfo=UTC) for one in listed] == [
        start + timedelta(days=1),
        start,
    ]
    assert await states(mesh, tomorrow.task_id) == [("queued", 0), ("cancelled", 0)]


async def test_interactive_task_that_nobody_takes_is_offered_four_times_then_expires(
    mesh: Mesh,
) -> None:
    quick = NO_WORKER.model_copy(update={"interactive_seconds": 0.2})
    async with mesh.process(quick) as stubs:
        patient = (await submit(stubs, mesh)).task_id
        task_id = (await submit(stubs, mesh, priority=HIGH)).task_id
        events = await watch(stubs, mesh, task_id)
    (row,) = await mesh.rows(
        "SELECT dispatches, extract(epoch FROM ended_at - created_at)::float8 AS seconds"
        " FROM orchestrator.tasks WHERE tenant_id = $1 AND task_id = $2",
        task_id,
    )
    assert events[-1].error.reason == "TASK_EXPIRED"
    assert events[-1].error.retryable
    assert row["dispatches"] == 4
    assert row["seconds"] >= 7
    assert await states(mesh, task_id) == [("queued", 0), ("expired", 0)]
    assert await states(mesh, patient) == [("queued", 0)]
    async with open_database(mesh.database, "orchestrator") as database:
        dead = await EmbeddedWorkQueue(database, ["chat"]).dead_letters(10)
    assert [(one.item.item_id if one.item else "", one.reason) for one in dead] == [
        (task_id, "expired")
    ] * 4


async def test_low_priority_is_refused_while_too_much_waits(mesh: Mesh) -> None:
    narrow = NO_WORKER.model_copy(update={"backlog_limit": 3})
    async with mesh.process(narrow) as stubs:
        for _ in range(4):
            await submit(stubs, mesh, priority=LOW)
        with pytest.raises(ResourceExhausted, match="more than 3 tasks wait") as refused:
            await submit(stubs, mesh, priority=LOW)
        await submit(stubs, mesh)
        await submit(stubs, mesh, priority=HIGH)
    assert refused.value.retry_after_seconds == 10
    async with mesh.process(narrow.model_copy(update={"worker_slots": 8})) as stubs:

        async def is_admitted() -> bool:
            try:
                await submit(stubs, mesh, priority=LOW)
            except ResourceExhausted:
                return False
            return True

        await eventually(is_admitted)


async def test_worker_takes_no_more_than_it_has_slots(mesh: Mesh) -> None:
    gate = asyncio.Event()
    mesh.models.script = [Say(["done"])]
    mesh.models.gate = lambda _: gate.wait()
    async with mesh.process(FAST.model_copy(update={"worker_slots": 2})) as stubs:
        accepted = [(await submit(stubs, mesh, agent="chat")).task_id for _ in range(5)]

        async def running() -> int:
            found = [await states(mesh, task_id) for task_id in accepted]
            return sum(one[-1][0] == "running" for one in found)

        async def are_two() -> bool:
            return await running() == 2

        await eventually(are_two)
        later = (await submit(stubs, mesh, agent="chat")).task_id
        assert await running() == 2
        gate.set()
        for task_id in [*accepted, later]:
            await watch(stubs, mesh, task_id)
    assert await ends(mesh) == dict.fromkeys([*accepted, later], 1)


async def test_watching_goes_on_after_the_last_checkpoint_that_was_seen(mesh: Mesh) -> None:
    mesh.models.script = [Say(["Hel", "lo."])]
    async with mesh.process() as stubs:
        task_id = (await submit(stubs, mesh, agent="chat")).task_id
        whole = await watch(stubs, mesh, task_id)
        checkpoint = next(event for event in whole if event.HasField("checkpoint"))
        again = await watch(stubs, mesh, task_id, after=whole[1].sequence)
        rest = await watch(stubs, mesh, task_id, after=checkpoint.sequence)
        nothing = await watch(stubs, mesh, task_id, after=whole[-1].sequence)
        with pytest.raises(OutOfRange) as wrong:
            await watch(stubs, mesh, task_id, after=7_000_000)
    assert text_of(again) == "Hello."
    assert kinds(rest) == ["started", "final"]
    assert rest[0].started.resumed_steps == 2
    assert rest[-1].sequence == whole[-1].sequence
    assert nothing == []
    assert wrong.value.reason == "CURSOR_EXPIRED"


async def test_colleague_neither_watches_nor_reads_it(mesh: Mesh) -> None:
    async with mesh.process(NOOP) as stubs:
        task_id = (await submit(stubs, mesh)).task_id
        mesh.caller = mesh.colleague()
        with pytest.raises(NotFound):
            await watch(stubs, mesh, task_id)


@pytest.mark.parametrize("engine", ["embedded", "rabbitmq"])
async def test_hundreds_of_tasks_each_end_once_with_two_processes(
    mesh: Mesh, engine: str, request: pytest.FixtureRequest
) -> None:
    if engine == "rabbitmq":
        url = request.getfixturevalue("rabbitmq_server")
        mesh.dispatch = DispatchSettings(url=url, prefix=f"t{new_id()[-12:]}-")
    async with mesh.process(NOOP) as stubs, mesh.process(NOOP):
        lanes = [HIGH, task_pb2.TASK_PRIORITY_NORMAL, LOW]
        accepted = [
            task.task_id
            for start in range(0, 300, 50)
            for task in await asyncio.gather(
                *(submit(stubs, mesh, priority=lanes[n % 3]) for n in range(start, start + 50))
            )
        ]

        async def are_done() -> bool:
            return len(await ends(mesh)) == 300

        await eventually(are_done, timeout_seconds=30)
    assert await ends(mesh) == dict.fromkeys(accepted, 1)


async def test_processes_tell_how_loaded_they_are(mesh: Mesh) -> None:
    async with (
        open_database(mesh.database, "orchestrator") as database,
        EmbeddedStatusBoard(database).subscribe() as statuses,
        mesh.process(FAST.model_copy(update={"status_seconds": 0.1})),
        asyncio.timeout(20),
    ):
        status = await anext(statuses)
    assert (status.agent, status.status) == ("orchestrator", "online")
    assert 1 <= status.weight <= 100
