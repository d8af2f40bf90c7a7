"""Whole tasks over the local seam, on real PostgreSQL."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from meshwright.model_router.v1 import generation_pb2
from meshwright.orchestrator.v1 import agent_service_pb2, task_pb2
from meshwright.types.v1 import message_pb2
from meshwright_common.errors import ServiceError, Unavailable
from meshwright_common.storage.postgres import open_database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.patience import prompt
from services.orchestrator.tests.mesh import FAST, Mesh, acting, kinds, request, run, text_of, user
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
    assert [event.sequence for event in events] == sorted({event.sequence for event in events})
    assert text_of(events) == events[-1].final.answer == "Hello there."
    assert got.task.state == task_pb2.TASK_STATE_COMPLETED
    assert got.task.result == events[-1].final
    assert (got.task.attempt, got.task.step_count) == (1, 2)
    assert got.task.usage.completion_tokens == 3
    assert got.task.spec.messages[0].parts[0].text == "What is it?"
    assert [message.role for message in events[-1].final.messages] == [message_pb2.ROLE_ASSISTANT]
    (told,) = await mesh.events("agent.task.completed")
    assert told["task_id"] == events[0].task_id
    assert (told["state"], told["answer_characters"]) == ("completed", str(len("Hello there.")))
    (audited,) = await mesh.events("audit.recorded")
    assert audited["action"] == "task.accepted"


async def test_text_of_a_stream_that_broke_is_withdrawn_and_the_rest_is_the_answer(
    mesh: Mesh,
) -> None:
    """R-13: behind the last start, the chunks of each step add up to the answer."""
    mesh.models.script = [
        Say(["One."], calls=[("add", "{}")]),
        Say(["Ho", "wdy."], void=["Hel", "p"]),
    ]
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request())
    assert all(one.accepts_restart for one in mesh.models.requests)
    assert kinds(events).count("started") == 2
    answer, kept = "", 0
    for event in events:
        answer += event.chunk.text
        if event.HasField("checkpoint"):
            kept = event.checkpoint.answer_characters
        if event.HasField("started"):
            answer = answer[:kept]
    assert answer == events[-1].final.answer == "One.\n\nHowdy."
    assert "Help" not in str(events[-1].final)


async def test_rag_task_cites_the_passages_that_its_answer_refers_to(mesh: Mesh) -> None:
    mesh.documents.passages = [passage(1, "Cats purr.", page=7), passage(2, "Dogs bark.")]
    mesh.models.script = [Say(["Dogs bark [2]."])]
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request("Who barks?", agent="rag"))
    assert kinds(events) == ["started", "recall", "chunk", "checkpoint", "final"]
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
    assert sorted(mesh.tools.ran) == [(task_id, 3, 0, "add"), (task_id, 3, 1, "add")]
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
    assert steps == [(2, 1), (4, 1)]
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


async def test_database_that_is_away_for_a_moment_costs_no_second_model_call(mesh: Mesh) -> None:
    """F: the outcome waits for the journal as long as the lease is good."""
    spoken, locked = asyncio.Event(), asyncio.Event()

    async def hold_the_end(index: int) -> None:
        if index == 1:
            spoken.set()
            await locked.wait()

    mesh.models.gate = hold_the_end
    mesh.database = prompt(mesh.database)
    section = FAST.model_copy(update={"task_lease_seconds": 20.0})
    async with mesh.process(section) as stubs:
        reading = asyncio.ensure_future(run(stubs, mesh.caller, request()))
        await spoken.wait()
        async with (
            open_database(mesh.database, "orchestrator") as database,
            unit_of_work(database, mesh.caller.tenant_id) as connection,
        ):
            await connection.execute("LOCK TABLE orchestrator.tasks IN SHARE MODE")
            locked.set()
            # Longer than a statement waits for a lock.
            done, _ = await asyncio.wait(
                {reading}, timeout=mesh.database.lock_timeout_seconds + 0.5
            )
            assert not done
        events = await reading
    assert events[-1].final.answer == "Hello."
    assert len(mesh.models.requests) == 1
