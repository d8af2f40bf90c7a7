"""Requests: idempotent, visible to whom they belong to, refused when they are wrong."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from meshwright.orchestrator.v1 import agent_service_pb2, task_pb2
from meshwright.types.v1 import message_pb2
from meshwright_common.errors import ServiceError
from meshwright_common.settings import SettingsError, load
from meshwright_orchestrator.settings import Settings
from services.orchestrator.tests.mesh import FAST, Mesh, acting, kinds, request, run, text_of
from services.orchestrator.tests.peers import Say

pytestmark = pytest.mark.asyncio


async def test_same_request_id_tells_the_stored_task_again(mesh: Mesh) -> None:
    """R-12: nothing runs a second time, in this process and in the next one."""
    mesh.models.script = [
        Say(["Let me add."], [("add", '{"numbers": [1, 2]}')]),
        Say(["3", "."]),
    ]
    async with mesh.process() as stubs:
        first = await run(stubs, mesh.caller, request(request_id="r1"))
        again = await run(stubs, mesh.caller, request(request_id="r1"))
    async with mesh.process() as stubs:
        later = await run(stubs, mesh.caller, request(request_id="r1"))
    assert again == later
    assert kinds(again) == kinds(first)
    assert text_of(again) == text_of(first)
    assert again[-1].final == first[-1].final
    assert (len(mesh.models.requests), len(mesh.tools.ran)) == (2, 1)
    assert len(await mesh.events("agent.task.completed")) == 1


async def test_same_request_id_with_another_body_is_refused(mesh: Mesh) -> None:
    async with mesh.process() as stubs:
        await run(stubs, mesh.caller, request(request_id="r1"))
        with pytest.raises(ServiceError) as caught:
            await run(stubs, mesh.caller, request("Something else?", request_id="r1"))
    assert caught.value.reason == "IDEMPOTENCY_KEY_REUSED"


async def test_same_request_id_of_another_user_is_another_task(mesh: Mesh) -> None:
    async with mesh.process() as stubs:
        first = await run(stubs, mesh.caller, request(request_id="r1"))
        other = await run(stubs, mesh.colleague(), request("Else?", request_id="r1"))
    assert first[0].task_id != other[0].task_id


async def test_task_of_others_looks_absent(mesh: Mesh) -> None:
    """R-21: another tenant's id, another user's id and no id at all answer the same."""
    stranger = Mesh(mesh.database).caller
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request())
        asked = agent_service_pb2.GetTaskRequest(task_id=events[0].task_id)
        cancel = agent_service_pb2.CancelTaskRequest(task_id=events[0].task_id)
        for caller in (stranger, mesh.colleague()):
            with acting(caller):
                for call in (stubs.agents.GetTask(asked), stubs.agents.CancelTask(cancel)):
                    with pytest.raises(ServiceError) as caught:
                        await call
                    assert caught.value.reason == "TASK_NOT_FOUND"
                listed = await stubs.agents.ListTasks(agent_service_pb2.ListTasksRequest())
            assert list(listed.tasks) == []
        with acting(mesh.colleague("tenant:admin")):
            assert (await stubs.agents.GetTask(asked)).task.created_by == mesh.caller.subject


async def test_tasks_are_listed_newest_first_in_pages(mesh: Mesh) -> None:
    async with mesh.process() as stubs:
        ids = [(await run(stubs, mesh.caller, request()))[0].task_id for _ in range(3)]
        with acting(mesh.caller):
            asked = agent_service_pb2.ListTasksRequest(states=[task_pb2.TASK_STATE_COMPLETED])
            asked.page.page_size = 2
            first = await stubs.agents.ListTasks(asked)
            asked.page.page_token = first.page.next_page_token
            second = await stubs.agents.ListTasks(asked)
            del asked.states[:]
            with pytest.raises(ServiceError) as caught:
                await stubs.agents.ListTasks(asked)
    assert [task.task_id for task in [*first.tasks, *second.tasks]] == ids[::-1]
    assert not second.page.next_page_token
    assert not first.tasks[0].spec.messages
    assert caught.value.field_violations[0].field == "page.page_token"


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("spec.agent", lambda asked: asked.spec.ClearField("agent")),
        ("spec.messages", lambda asked: asked.spec.ClearField("messages")),
        ("spec.max_steps", lambda asked: setattr(asked.spec, "max_steps", 26)),
        ("spec.session_id", lambda asked: setattr(asked.spec, "session_id", "x")),
        ("request_id", lambda asked: setattr(asked, "request_id", "x" * 129)),
        ("spec.metadata", lambda asked: asked.spec.metadata.update({"x": "y" * 17_000})),
        ("spec.input", lambda asked: asked.spec.input.update({"x": float("nan")})),
        ("spec.messages[0].role", lambda asked: setattr(asked.spec.messages[0], "role", 0)),
        pytest.param(
            "spec.messages[0].role",
            lambda asked: setattr(asked.spec.messages[0], "role", message_pb2.ROLE_ASSISTANT),
            id="the last message is not the user's",
        ),
        ("spec.messages[0].parts", lambda asked: asked.spec.messages[0].ClearField("parts")),
        (
            "spec.messages[0].tool_call_id",
            lambda asked: setattr(asked.spec.messages[0], "tool_call_id", "c1"),
        ),
        (
            "spec.deadline",
            lambda asked: asked.spec.deadline.FromDatetime(datetime.now(UTC) + timedelta(days=2)),
        ),
    ],
)
async def test_wrong_request_names_its_field_and_stores_nothing(
    mesh: Mesh, field: str, change: object
) -> None:
    asked = request()
    assert callable(change)
    change(asked)
    async with mesh.process() as stubs:
        with pytest.raises(ServiceError) as caught:
            await run(stubs, mesh.caller, asked)
    assert [one.field for one in caught.value.field_violations] == [field]
    assert await mesh.rows("SELECT 1 FROM orchestrator.tasks WHERE tenant_id = $1") == []


async def test_unknown_agent_is_refused(mesh: Mesh) -> None:
    async with mesh.process() as stubs:
        with pytest.raises(ServiceError) as caught:
            await run(stubs, mesh.caller, request(agent="nobody"))
    assert caught.value.reason == "AGENT_NOT_FOUND"


async def test_process_that_runs_as_much_as_it_may_refuses_more(mesh: Mesh) -> None:
    """R-16: refused at once, with a time to come back."""
    mesh.models.script = [Say([], [("slow", "{}")])]
    async with mesh.process(FAST.model_copy(update={"max_running_tasks": 1})) as stubs:
        reading = asyncio.ensure_future(run(stubs, mesh.caller, request()))
        await mesh.tools.reached.wait()
        with pytest.raises(ServiceError) as caught:
            await run(stubs, mesh.caller, request())
        reading.cancel()
        await asyncio.wait({reading})
    assert caught.value.reason == "RESOURCE_EXHAUSTED"
    assert caught.value.retry_after_seconds
    assert len(await mesh.rows("SELECT 1 FROM orchestrator.tasks WHERE tenant_id = $1")) == 1


async def test_lease_that_is_renewed_too_late_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MESHWRIGHT_ORCHESTRATOR__TASK_LEASE_SECONDS", "4")
    with pytest.raises(SettingsError) as caught:
        load(Settings)
    assert "MESHWRIGHT_ORCHESTRATOR" in str(caught.value)
    assert "lease_renew_seconds" in str(caught.value)
