"""Tasks as streams, and the progress of documents."""

import asyncio

import pytest

from meshwright.orchestrator.v1 import task_pb2
from meshwright.rag.v1 import document_pb2
from meshwright_common.errors import DeadlineExceeded, NotFound
from meshwright_common.ids import new_id
from meshwright_common.testing.waiting import eventually
from services.gateway.tests.events import parse, read_events
from services.gateway.tests.platform import Platform

pytestmark = pytest.mark.asyncio

PATH = "/api/v1/agents/execute"


def started() -> task_pb2.TaskEvent:
    """Return the first event of a task."""
    return task_pb2.TaskEvent(started=task_pb2.TaskStarted(agent="chat"))


def chunk(text: str, reasoning: str = "") -> task_pb2.TaskEvent:
    """Return a piece of output."""
    return task_pb2.TaskEvent(chunk=task_pb2.TaskChunk(text=text, reasoning=reasoning))


async def test_a_task_is_streamed_to_its_end(platform: Platform) -> None:
    agents = platform.peers.agents
    final = task_pb2.TaskEvent(final=task_pb2.TaskFinal(answer="hi"))
    agents.events = [started(), chunk("", "hm"), chunk("h"), chunk("i", "so"), final]

    answer = await platform.post(PATH, {"agent": "chat", "message": "hello"}, idempotency_key="k")

    events = parse(await answer.text())
    assert [event.name for event in events] == [
        "task.started",
        "reasoning.delta",
        "message.delta",
        "reasoning.delta",
        "message.delta",
        "task.completed",
    ]
    assert events[-1].data["answer"] == "hi"
    assert events[-1].id == f"{agents.task.task_id}:1:5"
    assert answer.headers["content-location"] == f"/api/v1/tasks/{agents.task.task_id}"
    (request,) = agents.requests
    assert (request.spec.agent, request.request_id) == ("chat", "k")
    assert request.spec.messages[0].parts[0].text == "hello"


async def test_a_conversation_may_be_given_whole(platform: Platform) -> None:
    platform.peers.agents.events = [task_pb2.TaskEvent(final=task_pb2.TaskFinal())]
    messages = [{"role": "system", "content": "brief"}, {"role": "user", "content": "hello"}]

    await platform.post(PATH, {"agent": "chat", "messages": messages, "max_steps": 3})

    (request,) = platform.peers.agents.requests
    assert [message.role for message in request.spec.messages] == [1, 2]
    assert request.spec.max_steps == 3


@pytest.mark.parametrize(
    "body",
    [
        {"agent": "chat"},
        {"agent": "chat", "message": "a", "messages": [{"role": "user", "content": "b"}]},
    ],
)
async def test_either_a_message_or_messages_are_needed(
    platform: Platform, body: dict[str, object]
) -> None:
    answer = await platform.post(PATH, body)

    assert answer.status == 422
    assert platform.peers.agents.requests == []


async def test_a_task_whose_stream_breaks_is_told_to_its_stored_end(platform: Platform) -> None:
    agents = platform.peers.agents
    agents.events, agents.error = [started(), chunk("h")], DeadlineExceeded("too long")
    agents.task.state = task_pb2.TASK_STATE_COMPLETED
    agents.task.result.answer = "hi"

    answer = await platform.post(PATH, {"agent": "chat", "message": "hello"})

    events = parse(await answer.text())
    assert [event.name for event in events] == ["task.started", "message.delta", "task.completed"]
    assert events[-1].data["answer"] == "hi"


async def test_an_unknown_agent_is_a_problem(platform: Platform) -> None:
    platform.peers.agents.error = NotFound("there is no such agent")
    platform.peers.agents.error.reason = "AGENT_NOT_FOUND"

    answer = await platform.post(PATH, {"agent": "nobody", "message": "hello"})

    assert answer.status == 404
    assert (await answer.json())["code"] == "AGENT_NOT_FOUND"


@pytest.mark.parametrize("on_disconnect", ["cancel", "continue"])
async def test_leaving_cancels_a_task_only_when_asked_to(
    platform: Platform, on_disconnect: str
) -> None:
    agents = platform.peers.agents
    agents.events, agents.gate = [started()], asyncio.Event()
    body = {"agent": "chat", "message": "hello", "on_disconnect": on_disconnect}
    answer = await platform.http.post(platform.url + PATH, json=body, headers=platform.headers)
    await anext(read_events(answer))

    answer.close()

    await eventually(lambda: platform.gateway.answers.count == 0)
    expected = [agents.task.task_id] if on_disconnect == "cancel" else []
    await eventually(lambda: agents.cancelled == expected)


async def test_the_indexing_of_a_document_is_followed_to_its_end(platform: Platform) -> None:
    document_id = new_id()
    platform.peers.knowledge.progress = [
        document_pb2.IndexingProgress(document_id=document_id, state=state, stage=stage)
        for state, stage in (
            (document_pb2.DOCUMENT_STATE_INDEXING, "parsing"),
            (document_pb2.DOCUMENT_STATE_INDEXING, "embedding"),
            (document_pb2.DOCUMENT_STATE_READY, "done"),
        )
    ]

    answer = await platform.get(f"/api/v1/documents/{document_id}/events")

    events = parse(await answer.text())
    assert [event.name for event in events] == [
        "document.progress",
        "document.progress",
        "document.ready",
    ]
    assert [event.data["state"] for event in events] == ["indexing", "indexing", "ready"]
