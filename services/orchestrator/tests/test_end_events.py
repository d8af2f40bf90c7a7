"""What topic task.result tells of an end is written without its message, and is that message."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from google.protobuf import json_format

from meshwright.events.v1 import task_pb2
from meshwright_common.context import Principal
from meshwright_orchestrator.domain.errors import EXPIRED
from meshwright_orchestrator.domain.models import (
    Limits,
    Result,
    Task,
    TaskSpec,
    TaskState,
    Usage,
)
from meshwright_orchestrator.wire.events import task_result_data

BEGAN = datetime(2026, 11, 28, tzinfo=UTC)
COMPLETED = Task(
    task_id="01a223ab-15dd-7128-94f8-288e85d5c534",
    owner=Principal(tenant_id="t", subject="ada", kind="user", permissions=frozenset()),
    correlation_id="",
    spec=TaskSpec(agent="chat", messages=(), session_id="s"),
    limits=Limits(),
    engine_version=1,
    state=TaskState.COMPLETED,
    attempt=2,
    lease_epoch=2,
    created_at=BEGAN,
    updated_at=BEGAN,
    remaining_seconds=1.0,
    step_count=3,
    usage=Usage(prompt_tokens=1 << 53, completion_tokens=1, cost_micro_usd=7),
    result=Result("four"),
    ended_at=BEGAN + timedelta(seconds=1.5),
    detached=True,
)
EXPIRED_TASK = replace(COMPLETED, state=TaskState.EXPIRED, result=None, failure=EXPIRED)


def test_the_facts_of_an_end_are_the_json_form_of_their_message() -> None:
    for task in (COMPLETED, EXPIRED_TASK):
        data = task_result_data(task)
        message = json_format.ParseDict(dict(data), task_pb2.TaskResult())
        assert (message.total_tokens, message.duration_milliseconds) == ((1 << 53) + 1, 1500)
        assert data == json_format.MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
