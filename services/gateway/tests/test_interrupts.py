"""What tasks ask people, and the answers, as JSON (features.md O7)."""

import pytest
from google.protobuf import json_format

from meshwright.orchestrator.v1 import task_pb2
from meshwright.types.v1 import message_pb2
from meshwright_common.errors import FieldViolation, InvalidArgument
from meshwright_common.ids import new_id
from services.gateway.tests.events import parse
from services.gateway.tests.platform import Platform

pytestmark = pytest.mark.asyncio

SCHEMA = {"type": "object", "required": ["approved"]}


def approval() -> task_pb2.TaskInterrupt:
    """Return the approval of a call."""
    asked = task_pb2.TaskInterrupt(
        interrupt_id=new_id(),
        kind=task_pb2.INTERRUPT_KIND_APPROVAL,
        question="May it?",
        tool_call=message_pb2.ToolCall(id="c1", name="pay", arguments_json='{"euro": 5}'),
    )
    json_format.ParseDict(SCHEMA, asked.answer_schema)
    asked.expire_time.FromJsonString("2030-01-01T00:00:00Z")
    return asked


async def test_open_questions_are_listed_with_the_exact_call(platform: Platform) -> None:
    asked = approval()
    platform.peers.agents.task.interrupts.append(asked)

    listed = await (await platform.get("/api/v1/interrupts")).json()
    task = await (await platform.get(f"/api/v1/tasks/{new_id()}")).json()

    (shown,) = listed["interrupts"]
    assert shown["interrupt_id"] == asked.interrupt_id
    assert shown["kind"] == "approval"
    assert shown["tool_call"] == {"id": "c1", "name": "pay", "arguments_json": '{"euro": 5}'}
    assert shown["answer_schema"] == SCHEMA
    assert shown["payload"] is None
    assert shown["expire_time"] == "2030-01-01T00:00:00Z"
    assert task["interrupts"][0]["question"] == "May it?"


async def test_an_answer_goes_on_as_it_was_given(platform: Platform) -> None:
    task_id, interrupt_id = new_id(), new_id()
    body = {"interrupt_id": interrupt_id, "answer": {"approved": True, "comment": "fine"}}

    answer = await platform.post(f"/api/v1/tasks/{task_id}/resume", body, idempotency_key="k")

    assert answer.status == 200
    (request,) = platform.peers.agents.requests
    assert (request.task_id, request.interrupt_id) == (task_id, interrupt_id)
    assert request.request_id == "k"
    assert json_format.MessageToDict(request.payload) == body["answer"]


async def test_a_refused_answer_names_the_field_of_the_body(platform: Platform) -> None:
    violation = FieldViolation("payload.approved", "is not of type 'boolean'")
    platform.peers.agents.error = InvalidArgument("no", field_violations=(violation,))
    body = {"interrupt_id": new_id(), "answer": {"approved": "yes"}}

    answer = await platform.post(f"/api/v1/tasks/{new_id()}/resume", body)

    assert answer.status == 400
    assert (await answer.json())["errors"][0]["field"] == "answer.approved"


async def test_a_stream_tells_what_is_asked(platform: Platform) -> None:
    asked = approval()
    platform.peers.agents.events = [
        task_pb2.TaskEvent(interrupt=asked),
        task_pb2.TaskEvent(final=task_pb2.TaskFinal(answer="hi")),
    ]
    answer = await platform.get(f"/api/v1/tasks/{new_id()}/events")
    events = parse(await answer.text())
    assert [event.name for event in events] == ["interrupt", "task.completed"]
    assert events[0].data["tool_call"]["name"] == "pay"
    assert events[0].data["answer_schema"] == SCHEMA
