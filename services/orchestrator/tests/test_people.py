"""Tasks that ask people: the exact call, one answer that counts, and going on once (O7)."""

import asyncio
import json
from collections.abc import Awaitable

import pytest

from meshwright.orchestrator.v1 import agent_service_pb2, task_pb2
from meshwright.types.v1 import page_pb2
from meshwright_common.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ServiceError,
)
from meshwright_common.ids import new_id
from meshwright_common.testing.waiting import eventually
from services.orchestrator.tests.mesh import FAST, Mesh, kinds, request, run
from services.orchestrator.tests.peers import Say
from services.orchestrator.tests.people import (
    answer,
    asked_of,
    define,
    open_for,
    reached,
    submit,
    task_of,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]

WAITING = task_pb2.TASK_STATE_WAITING
COMPLETED = task_pb2.TASK_STATE_COMPLETED
ADD = ("add", '{"numbers":  [1, 2]}')
CALLS = [Say(["Adding."], [ADD]), Say(["Done."])]
APPROVED = {"approved": True}
NO_WORKER = FAST.model_copy(update={"worker_slots": 0})
QUICK = FAST.model_copy(update={"sweep_seconds": 0.2, "question_seconds": 1.0})
"""Nobody answers within a second."""


async def test_a_call_waits_for_its_approval_and_is_made_once(mesh: Mesh) -> None:
    mesh.models.script = CALLS
    async with mesh.process() as stubs:
        await define(stubs, mesh, tools=["add"], approval_tools=["add"])
        task_id = await submit(stubs, mesh, "clerk")
        (asked,) = await asked_of(stubs, mesh, task_id)
        assert mesh.tools.ran == []
        assert asked.kind == task_pb2.INTERRUPT_KIND_APPROVAL
        assert (asked.tool_call.name, asked.tool_call.arguments_json) == ADD
        assert asked.expire_time.ToSeconds() - asked.create_time.ToSeconds() == 7 * 24 * 3600

        await answer(stubs, mesh.caller, task_id, asked.interrupt_id, APPROVED)
        done = await reached(stubs, mesh, task_id, COMPLETED)

    assert done.result.answer == "Adding.\n\nDone."
    assert not done.interrupts
    assert [ran[3] for ran in mesh.tools.ran] == ["add"]
    assert len(mesh.models.requests) == 2


async def test_the_audit_log_says_who_approved_which_call(mesh: Mesh) -> None:
    """R-62: the call by its digest; neither arguments nor comments."""
    mesh.models.script = CALLS
    async with mesh.process() as stubs:
        await define(stubs, mesh, tools=["add"], approval_tools=["add"])
        task_id = await submit(stubs, mesh, "clerk")
        (asked,) = await asked_of(stubs, mesh, task_id)
        said = {"approved": False, "comment": "not on my watch"}
        await answer(stubs, mesh.caller, task_id, asked.interrupt_id, said)
        done = await reached(stubs, mesh, task_id, COMPLETED)
    (record,) = [
        one for one in await mesh.events("audit.recorded") if one["action"] == "task.answered"
    ]
    assert record["actor"] == mesh.caller.subject
    assert record["resource"] == f"task/{task_id}"
    assert record["details"]["approved"] is False
    assert record["details"]["tool"] == "add"
    assert len(record["details"]["call_sha256"]) == 64
    assert "not on my watch" not in json.dumps(record)
    # The model is told why, and goes on.
    assert mesh.tools.ran == []
    result = mesh.models.requests[1].messages[-1].parts[0].text
    assert json.loads(result) == {
        "error": "a person refused this call: not on my watch",
        "reason": "APPROVAL_REFUSED",
    }
    assert done.result.answer == "Adding.\n\nDone."


async def test_an_agent_asks_its_user_and_reads_the_answer(mesh: Mesh) -> None:
    arguments = json.dumps({"question": "Which colour?", "choices": ["red", "blue"]})
    mesh.models.script = [Say([], [("ask_person", arguments)]), Say(["Blue it is."])]
    async with mesh.process() as stubs:
        await define(stubs, mesh, tools=["add", "ask_person"])
        task_id = await submit(stubs, mesh, "clerk")
        (asked,) = await asked_of(stubs, mesh, task_id)
        assert asked.question == "Which colour?"
        with pytest.raises(InvalidArgument) as caught:
            await answer(stubs, mesh.caller, task_id, asked.interrupt_id, {"choice": "green"})
        assert caught.value.field_violations[0].field == "payload.choice"
        await answer(stubs, mesh.caller, task_id, asked.interrupt_id, {"choice": "blue"})
        await reached(stubs, mesh, task_id, COMPLETED)
    offered = [tool.name for tool in mesh.models.requests[0].tools]
    assert offered == ["add", "ask_person"]
    assert mesh.models.requests[1].messages[-1].parts[0].text == '{"choice":"blue"}'
    assert mesh.tools.asked == 0


async def test_the_first_answer_counts_and_the_same_request_is_no_second_one(mesh: Mesh) -> None:
    mesh.models.script = CALLS
    async with mesh.process() as stubs:
        await define(stubs, mesh, tools=["add"], approval_tools=["add"])
        task_id = await submit(stubs, mesh, "clerk")
        (asked,) = await asked_of(stubs, mesh, task_id)

        def say(approved: bool, request_id: str) -> Awaitable[task_pb2.Task]:
            value = {"approved": approved}
            return answer(stubs, mesh.caller, task_id, asked.interrupt_id, value, request_id)

        results = await asyncio.gather(
            *(say(True, f"r{index}") for index in range(8)), return_exceptions=True
        )
        won = [index for index, one in enumerate(results) if isinstance(one, task_pb2.Task)]
        lost = [one for one in results if isinstance(one, ServiceError)]
        again = await say(True, f"r{won[0]}")
        with pytest.raises(AlreadyExists) as reused:
            await say(False, f"r{won[0]}")
        with pytest.raises(FailedPrecondition) as late:
            await say(False, "")
        await reached(stubs, mesh, task_id, COMPLETED)
    assert len(won) == 1
    assert {error.reason for error in lost} == {"TASK_STATE"}
    assert again.task_id == task_id
    assert reused.value.reason == "IDEMPOTENCY_KEY_REUSED"
    assert late.value.reason == "TASK_STATE"
    assert [ran[3] for ran in mesh.tools.ran] == ["add"]


async def test_only_the_owner_and_administrators_see_and_answer(mesh: Mesh) -> None:
    mesh.models.script = CALLS
    stranger, admin = mesh.colleague(), mesh.colleague("tenant:admin")
    async with mesh.process() as stubs:
        await define(stubs, mesh, tools=["add"], approval_tools=["add"])
        task_id = await submit(stubs, mesh, "clerk")
        (asked,) = await asked_of(stubs, mesh, task_id)
        (mine,) = (await open_for(stubs, mesh.caller)).interrupts
        theirs = await open_for(stubs, stranger)
        (seen,) = (await open_for(stubs, admin)).interrupts
        with pytest.raises(NotFound) as not_seen:
            await open_for(stubs, stranger, task_id=task_id)
        with pytest.raises(NotFound) as caught:
            await answer(stubs, stranger, task_id, asked.interrupt_id, APPROVED)
        with pytest.raises(NotFound) as unknown:
            await answer(stubs, mesh.caller, task_id, new_id(), APPROVED)
        assert (await task_of(stubs, mesh.caller, task_id)).state == WAITING
        await answer(stubs, admin, task_id, asked.interrupt_id, APPROVED)
        await reached(stubs, mesh, task_id, COMPLETED)
    assert (mine.task_id, mine.agent, mine.created_by) == (task_id, "clerk", mesh.caller.subject)
    assert not theirs.interrupts
    assert seen.interrupt == mine.interrupt
    assert not_seen.value.reason == caught.value.reason == "TASK_NOT_FOUND"
    assert unknown.value.reason == "INTERRUPT_NOT_FOUND"


async def test_open_questions_are_paged_oldest_first(mesh: Mesh) -> None:
    mesh.models.script = CALLS
    async with mesh.process() as stubs:
        await define(stubs, mesh, tools=["add"], approval_tools=["add"])
        tasks = []
        for _ in range(3):
            tasks.append(await submit(stubs, mesh, "clerk"))
            await asked_of(stubs, mesh, tasks[-1])
        first = await open_for(stubs, mesh.caller, page=page_pb2.PageRequest(page_size=2))
        token = first.page.next_page_token
        rest = await open_for(
            stubs, mesh.caller, page=page_pb2.PageRequest(page_size=2, page_token=token)
        )
        with pytest.raises(InvalidArgument):
            await open_for(
                stubs, mesh.caller, task_id=tasks[0], page=page_pb2.PageRequest(page_token=token)
            )
    listed = [one.task_id for one in (*first.interrupts, *rest.interrupts)]
    assert listed == tasks
    assert not rest.page.next_page_token


async def test_what_nobody_answers_is_refused_in_time(mesh: Mesh) -> None:
    """The call is not made, the model is told, and a late answer is too late."""
    mesh.models.script = CALLS
    async with mesh.process(QUICK) as stubs:
        await define(stubs, mesh, tools=["add"], approval_tools=["add"])
        task_id = await submit(stubs, mesh, "clerk")
        (asked,) = await asked_of(stubs, mesh, task_id)
        await reached(stubs, mesh, task_id, COMPLETED)
        with pytest.raises(FailedPrecondition) as late:
            await answer(stubs, mesh.caller, task_id, asked.interrupt_id, APPROVED)
        assert not (await open_for(stubs, mesh.caller)).interrupts
    assert late.value.reason == "TASK_STATE"
    assert mesh.tools.ran == []
    result = json.loads(mesh.models.requests[1].messages[-1].parts[0].text)
    assert result["reason"] == "APPROVAL_EXPIRED"


async def test_an_answer_whose_process_dies_is_not_lost(mesh: Mesh) -> None:
    """Row 19 of the crash points: recorded, not resumed."""
    mesh.models.script = CALLS
    async with mesh.process() as stubs:
        await define(stubs, mesh, tools=["add"], approval_tools=["add"])
        task_id = await submit(stubs, mesh, "clerk")
        (asked,) = await asked_of(stubs, mesh, task_id)
    async with mesh.process(NO_WORKER) as stubs:
        task = await answer(stubs, mesh.caller, task_id, asked.interrupt_id, APPROVED)
        assert task.state == task_pb2.TASK_STATE_QUEUED
        assert not task.interrupts
    async with mesh.process() as stubs:
        await reached(stubs, mesh, task_id, COMPLETED)
    assert [ran[3] for ran in mesh.tools.ran] == ["add"]


async def test_the_owner_is_told_that_a_task_waits(mesh: Mesh) -> None:
    mesh.models.script = CALLS
    async with mesh.process() as stubs:
        await define(stubs, mesh, tools=["add"], approval_tools=["add"])
        task_id = await submit(stubs, mesh, "clerk")
        await asked_of(stubs, mesh, task_id)
    (notice,) = await mesh.events("notification.created")
    assert notice["user_id"] == mesh.caller.subject
    assert notice["kind"] == "task.waiting"
    assert notice["details"]["task_id"] == task_id
    assert "numbers" not in json.dumps(notice)


async def test_a_reader_is_told_what_is_asked_and_then_the_rest(mesh: Mesh) -> None:
    mesh.models.script = CALLS
    async with mesh.process() as stubs:
        await define(stubs, mesh, tools=["add"], approval_tools=["add"])
        reading = asyncio.ensure_future(
            run(stubs, mesh.caller, request(agent="clerk", request_id="r1"))
        )
        seen: list[agent_service_pb2.OpenInterrupt] = []

        async def waits() -> bool:
            seen[:] = (await open_for(stubs, mesh.caller)).interrupts
            return bool(seen)

        await eventually(waits)
        (asked,) = seen
        interrupt_id = asked.interrupt.interrupt_id
        await answer(stubs, mesh.caller, asked.task_id, interrupt_id, APPROVED)
        events = await reading
    told = [event.interrupt for event in events if event.HasField("interrupt")]
    assert [one.interrupt_id for one in told] == [interrupt_id]
    assert told[0].tool_call.arguments_json == ADD[1]
    assert kinds(events)[-1] == "final"
    assert events[-1].final.answer == "Adding.\n\nDone."
