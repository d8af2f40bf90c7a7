"""Tasks that are handed to the workers, and followed by whoever wants to (features.md O4, O5)."""

from datetime import UTC, datetime, timedelta

import pytest

from meshwright.orchestrator.v1 import task_pb2
from meshwright.types.v1 import plan_pb2
from meshwright_common.errors import DeadlineExceeded, ResourceExhausted, Unavailable
from meshwright_common.ids import new_id
from services.gateway.tests.events import parse
from services.gateway.tests.platform import Platform

pytestmark = pytest.mark.asyncio

PATH = "/api/v1/tasks"
EVENTS = [
    task_pb2.TaskEvent(started=task_pb2.TaskStarted(agent="chat")),
    task_pb2.TaskEvent(chunk=task_pb2.TaskChunk(text="hi")),
    task_pb2.TaskEvent(final=task_pb2.TaskFinal(answer="hi")),
]


async def test_a_submitted_task_is_accepted_with_its_place(platform: Platform) -> None:
    deadline = datetime.now(UTC) + timedelta(hours=1)
    body = {
        "agent": "chat",
        "message": "hello",
        "priority": "low",
        "deadline": deadline.isoformat(),
        "metadata": {"a": 1},
    }

    answer = await platform.post(PATH, body, idempotency_key="k")

    task = platform.peers.agents.task
    assert answer.status == 202
    assert answer.headers["location"] == f"/api/v1/tasks/{task.task_id}"
    assert (await answer.json())["task_id"] == task.task_id
    (request,) = platform.peers.agents.requests
    assert request.request_id == "k"
    assert request.spec.priority == task_pb2.TASK_PRIORITY_LOW
    assert request.spec.deadline.ToDatetime(tzinfo=UTC) == deadline
    assert request.spec.messages[0].parts[0].text == "hello"


async def test_priority_is_normal_unless_it_is_said(platform: Platform) -> None:
    await platform.post(PATH, {"agent": "chat", "message": "hello"})
    (request,) = platform.peers.agents.requests
    assert request.spec.priority == task_pb2.TASK_PRIORITY_NORMAL
    assert not request.spec.HasField("deadline")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"priority": "urgent"}, "priority"),
        ({"deadline": "tomorrow"}, "deadline"),
        ({"deadline": "2026-01-01T00:00:00"}, "deadline"),
        ({"on_disconnect": "cancel"}, "on_disconnect"),
        ({"messages": [{"role": "user", "content": "b"}]}, "message"),
    ],
)
async def test_a_wrong_submission_is_refused_by_the_name_of_its_field(
    platform: Platform, more: dict[str, object], field: str
) -> None:
    answer = await platform.post(PATH, {"agent": "chat", "message": "hello"} | more)
    assert answer.status == 422
    assert (await answer.json())["errors"][0]["field"] == field
    assert platform.peers.agents.requests == []


async def test_shed_work_is_told_when_to_come_back(platform: Platform) -> None:
    platform.peers.agents.error = ResourceExhausted("too much waits", retry_after_seconds=10.0)
    answer = await platform.post(PATH, {"agent": "chat", "message": "m", "priority": "low"})
    assert answer.status == 429
    assert answer.headers["retry-after"] == "10"
    assert (await answer.json())["detail"] == "too much waits"


async def test_a_task_is_followed_from_the_event_that_was_seen_last(platform: Platform) -> None:
    agents, task_id = platform.peers.agents, new_id()
    agents.events = list(EVENTS)

    whole = await platform.get(f"{PATH}/{task_id}/events")
    seen = parse(await whole.text())
    rest = await platform.get(f"{PATH}/{task_id}/events", last_event_id=seen[1].id)
    done = await platform.get(f"{PATH}/{task_id}/events", last_event_id=seen[2].id)

    assert [event.name for event in seen] == ["task.started", "message.delta", "task.completed"]
    assert seen[-1].id == f"{task_id}:1:3"
    assert [event.name for event in parse(await rest.text())] == ["task.completed"]
    assert done.status == 204
    assert [request.after_sequence for request in agents.requests] == [0, 2, 3]


@pytest.mark.parametrize("error", [DeadlineExceeded, Unavailable])
async def test_a_call_that_breaks_off_is_made_again(
    platform: Platform, error: type[DeadlineExceeded | Unavailable]
) -> None:
    agents = platform.peers.agents
    agents.events, agents.error = list(EVENTS), error("gone")
    answer = await platform.get(f"{PATH}/{new_id()}/events")
    events = parse(await answer.text())
    assert [event.name for event in events] == ["task.started", "message.delta", "task.completed"]
    assert [request.after_sequence for request in agents.requests] == [0, 1]


async def test_a_stream_tells_the_plan_and_the_agents_at_work(platform: Platform) -> None:
    plan = plan_pb2.Plan(revision=1)
    plan.steps.add(text="Look it up.", state=plan_pb2.PLAN_STEP_STATE_RUNNING)
    child = task_pb2.TaskChild(task_id="t-2", agent="rag", state=task_pb2.TASK_STATE_QUEUED)
    platform.peers.agents.events = [
        task_pb2.TaskEvent(plan=plan),
        task_pb2.TaskEvent(child=child),
        EVENTS[-1],
    ]
    answer = await platform.get(f"{PATH}/{new_id()}/events")
    events = parse(await answer.text())
    assert [(event.name, event.data) for event in events[:2]] == [
        (
            "plan",
            {"steps": [{"text": "Look it up.", "state": "running"}], "revision": 1, "note": ""},
        ),
        ("task.child", {"task_id": "t-2", "agent": "rag", "state": "queued"}),
    ]


@pytest.mark.parametrize("wrong", ["x", "a:b", "01890a5d-ac96-774b-bcce-b302099a8057:1:4"])
async def test_a_position_of_something_else_is_refused(platform: Platform, wrong: str) -> None:
    answer = await platform.get(f"{PATH}/{new_id()}/events", last_event_id=wrong)
    assert answer.status == 410
    assert (await answer.json())["code"] == "CURSOR_EXPIRED"


async def test_an_id_that_is_none_is_refused(platform: Platform) -> None:
    answer = await platform.get(f"{PATH}/not-an-id/events")
    assert answer.status == 400
    assert platform.peers.agents.requests == []
