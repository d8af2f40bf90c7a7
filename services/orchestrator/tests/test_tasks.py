"""Whole tasks over the local seam, on real PostgreSQL."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from meshwright.model_router.v1 import generation_pb2
from meshwright.orchestrator.v1 import agent_service_pb2, task_pb2
from meshwright.types.v1 import message_pb2
from meshwright_common.errors import ServiceError, Unavailable
from services.orchestrator.tests.mesh import Mesh, acting, kinds, request, run, text_of, user
from services.orchestrator.tests.peers import NoSuchBase, Say, passage

pytestmark = pytest.mark.asyncio


async def test_answer_of_a_chat_task_is_streamed_journaled_and_announced_once(mesh: Mesh) -> None:
    """O1, O4: the stream ends with the result that GetTask returns."""
    mesh.models.script = [Say(["Hel", "lo ", "there."], reasoning="hm")]
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request())
        with acting(mesh.caller):
            got = await stubs.agents.GetTask(
                agent_service_pb2.GetTaskRequest(task_id=events[0].task_id)
            )
    assert kinds(events) == ["started", "chunk", "checkpoint", "final"]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert text_of(events) == events[-1].final.answer == "Hello there."
    assert got.task.state == task_pb2.TASK_STATE_COMPLETED
    assert got.task.result == events[-1].final
    assert (got.task.attempt, got.task.step_count) == (1, 1)
    assert got.task.usage.completion_tokens == 3
    assert got.task.spec.messages[0].parts[0].text == "What is it?"
    assert [message.role for message in events[-1].final.messages] == [message_pb2.ROLE_ASSISTANT]
    (told,) = await mesh.events("agent.task.completed")
    assert told["task_id"] == events[0].task_id
    assert (told["state"], told["answer_characters"]) == ("completed", str(len("Hello there.")))
    (audited,) = await mesh.events("audit.recorded")
    assert audited["action"] == "task.accepted"


async def test_rag_task_cites_the_passages_that_its_answer_refers_to(mesh: Mesh) -> None:
    mesh.documents.passages = [passage(1, "Cats purr.", page=7), passage(2, "Dogs bark.")]
    mesh.models.script = [Say(["Dogs bark [2]."])]
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request("Who barks?", agent="rag"))
    assert kinds(events) == ["started", "recall", "checkpoint", "chunk", "checkpoint", "final"]
    assert [one.number for one in events[1].recall.passages] == [1, 2]
    assert mesh.documents.requests[0].query == "Who barks?"
    assert mesh.documents.requests[0].top_k == 6
    (citation,) = events[-1].final.citations
    assert (citation.number, citation.document_name, citation.quote) == (
        2,
        "book-2.pdf",
        "Dogs bark.",
    )
    system = mesh.models.requests[0].messages[0]
    assert system.role == message_pb2.ROLE_SYSTEM
    assert (
        "Passages:\n[1] book-1.pdf, page 7\nCats purr.\n\n[2] book-2.pdf\nDogs bark.\n"
        in system.parts[0].text
    )


@pytest.mark.parametrize("error", [NoSuchBase(), Unavailable("no index")])
async def test_rag_task_goes_on_without_passages(mesh: Mesh, error: ServiceError) -> None:
    """R4: a search that is away is told, not hidden, and the task still ends with an answer."""
    mesh.documents.error = error
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request(agent="rag"))
    assert events[-1].final.answer == "Hello."
    assert bool(events[1].recall.degraded) == isinstance(error, Unavailable)


async def test_named_knowledge_base_that_is_absent_fails_the_task(mesh: Mesh) -> None:
    mesh.documents.error = NoSuchBase()
    async with mesh.process() as stubs:
        asked = request(agent="rag", knowledge_base_ids=["nowhere"])
        events = await run(stubs, mesh.caller, asked)
    assert events[-1].error.reason == "KNOWLEDGE_BASE_NOT_FOUND"
    assert not events[-1].error.retryable


async def test_tools_run_together_and_their_results_lead_to_the_answer(mesh: Mesh) -> None:
    """T7: each call carries its task, step and index."""
    mesh.models.script = [
        Say(["Let me add."], [("add", '{"numbers": [1, 2]}'), ("add", '{"numbers": [3, 4]}')]),
        Say(["3 and 7."]),
    ]
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request())
    task_id = events[0].task_id
    assert kinds(events) == [
        *("started", "chunk", "checkpoint"),
        *("tool_call", "tool_call", "tool_result", "tool_result", "checkpoint"),
        *("chunk", "checkpoint", "final"),
    ]
    assert sorted(mesh.tools.ran) == [(task_id, 2, 0, "add"), (task_id, 2, 1, "add")]
    assert text_of(events) == events[-1].final.answer == "Let me add.\n\n3 and 7."
    roles = [message.role for message in events[-1].final.messages]
    assert roles == [
        message_pb2.ROLE_ASSISTANT,
        *[message_pb2.ROLE_TOOL] * 2,
        message_pb2.ROLE_ASSISTANT,
    ]
    seen = mesh.models.requests[1].messages
    assert [message.parts[0].text for message in seen[-2:]] == ['{"sum": 3}', '{"sum": 7}']
    steps = [(call.attribution.step, call.attribution.attempt) for call in mesh.models.requests]
    assert steps == [(1, 1), (3, 1)]
    assert {call.attribution.task_id for call in mesh.models.requests} == {task_id}
    assert events[-1].final.usage.prompt_tokens == 20


async def test_tool_call_agent_demands_a_tool_first(mesh: Mesh) -> None:
    mesh.models.script = [Say([], [("add", '{"numbers": [1]}')]), Say(["One."])]
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request(agent="tool_call"))
    choices = [call.tool_choice for call in mesh.models.requests]
    assert choices == [generation_pb2.TOOL_CHOICE_REQUIRED, generation_pb2.TOOL_CHOICE_AUTO]
    assert events[-1].final.answer == "One."


async def test_call_that_cannot_be_made_is_an_error_for_the_model(mesh: Mesh) -> None:
    """The task goes on: unknown tools and wrong arguments are the model's to mend."""
    mesh.models.script = [
        Say([], [("telepathy", "{}"), ("add", '{"numbers": [')]),
        Say(["I cannot."]),
    ]
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request())
    results = {
        event.tool_result.name: event.tool_result
        for event in events
        if event.HasField("tool_result")
    }
    assert all(result.is_error for result in results.values())
    assert json.loads(results["telepathy"].result_json)["reason"] == "TOOL_NOT_FOUND"
    assert json.loads(results["add"].result_json)["reason"] == "TOOL_ARGUMENTS_INVALID"
    assert events[-1].final.answer == "I cannot."


async def test_sources_of_a_tool_are_numbered_on_and_cited(mesh: Mesh) -> None:
    mesh.documents.passages = [passage(1, "Cats purr.")]
    found = {"number": 1, "document_name": "book-9.pdf", "quote": "Fish swim.", "chunk_id": "c9"}
    known = {"number": 2, "document_name": "book-1.pdf", "chunk_id": "chunk-1"}
    mesh.tools.citations = [json.dumps(found), json.dumps(known)]
    mesh.models.script = [
        Say([], [("knowledge_search", '{"query": "fish"}')]),
        Say(["Fish swim [2], cats purr [1]."]),
    ]
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request(agent="rag"))
    shown = json.loads(mesh.models.requests[1].messages[-1].parts[0].text)["passages"]
    assert [(one["chunk_id"], one["number"]) for one in shown] == [("c9", 2), ("chunk-1", 1)]
    cited = [(one.number, one.chunk_id) for one in events[-1].final.citations]
    assert cited == [(1, "chunk-1"), (2, "c9")]


async def test_error_of_the_model_fails_the_task_with_its_reason(mesh: Mesh) -> None:
    error = Unavailable("the provider is away")
    error.reason = "PROVIDER_UNAVAILABLE"
    mesh.models.script = [Say(["Hel"], error=error)]
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request())
        with acting(mesh.caller):
            got = await stubs.agents.GetTask(
                agent_service_pb2.GetTaskRequest(task_id=events[0].task_id)
            )
    assert (events[-1].error.reason, events[-1].error.retryable) == ("PROVIDER_UNAVAILABLE", True)
    assert got.task.state == task_pb2.TASK_STATE_FAILED
    assert got.task.error == events[-1].error
    (told,) = await mesh.events("agent.task.failed")
    assert told["error_reason"] == "PROVIDER_UNAVAILABLE"


async def test_work_is_done_with_the_rights_of_the_caller(mesh: Mesh) -> None:
    async with mesh.process() as stubs:
        await run(stubs, mesh.caller, request())
    assert mesh.models.callers == [mesh.caller]


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


async def test_deadline_ends_the_task_as_expired(mesh: Mesh) -> None:
    """R-15: nothing starts after it, and what runs is stopped."""
    mesh.models.script = [Say([], [("slow", "{}")])]
    deadline = datetime.now(UTC) + timedelta(seconds=0.7)
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request(deadline=deadline))
        past = await run(stubs, mesh.caller, request(deadline=deadline))
    assert events[-1].error.reason == "TASK_EXPIRED"
    assert mesh.tools.stopped == 1
    assert kinds(past) == ["started", "error"]
    assert len(mesh.models.requests) == 1
    assert len(await mesh.events("agent.task.expired")) == 2


async def test_task_that_never_stops_calling_tools_ends_at_its_step_limit(mesh: Mesh) -> None:
    mesh.models.script = [Say([], [("add", f'{{"numbers": [{n}]}}')]) for n in range(30)]
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request(max_steps=5))
    assert events[-1].error.reason == "STEP_LIMIT"
    assert len(mesh.models.requests) + len(mesh.tools.ran) == 5
    assert mesh.models.requests[-1].tool_choice == generation_pb2.TOOL_CHOICE_NONE


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


async def test_any_text_survives_the_journal(mesh: Mesh) -> None:
    """Characters that PostgreSQL's jsonb refuses, and those outside the basic plane."""
    text = "a\0b 漢字 🐈 \u2028 \\u0000"
    mesh.models.script = [Say([text], [("add", "{}")]), Say([text])]
    asked = request("q", request_id="r1")
    asked.spec.messages.insert(0, user(text))
    async with mesh.process() as stubs:
        first = await run(stubs, mesh.caller, asked)
    async with mesh.process() as stubs:
        again = await run(stubs, mesh.caller, asked)
    assert first[-1].final.answer == again[-1].final.answer == f"{text}\n\n{text}"
