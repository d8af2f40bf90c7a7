"""Tasks: protobuf to domain and back, with the checks of shape."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import orjson
from google.protobuf import json_format, struct_pb2, timestamp_pb2

from meshwright.orchestrator.v1 import task_pb2
from meshwright.types.v1 import message_pb2
from meshwright_common.errors import invalid
from meshwright_common.ids import parse_id
from meshwright_orchestrator.domain.conversation import (
    MAX_CALLS_OF_MESSAGE,
    JsonObject,
    Message,
)
from meshwright_orchestrator.domain.models import Priority, Task, TaskSpec, TaskState
from meshwright_orchestrator.wire import values
from meshwright_orchestrator.wire.events import error_message, final_message
from meshwright_orchestrator.wire.structs import check_struct
from meshwright_orchestrator.wire.task_budgets import budget_from, budget_message

MAX_MESSAGES: Final = 500
MAX_TEXT_BYTES: Final = 1024 * 1024
MAX_IMAGE_BYTES: Final = 3 * 1024 * 1024
MAX_NAME_CHARACTERS: Final = 200
MAX_KNOWLEDGE_BASES: Final = 16
MAX_STEPS: Final = 25
MAX_INPUT_BYTES: Final = 256 * 1024
MAX_METADATA_BYTES: Final = 16 * 1024
MAX_REQUEST_ID_CHARACTERS: Final = 128
MAX_DURATION: Final = timedelta(hours=24)
MAX_DELAY: Final = timedelta(days=366)

_ROLES: Final = {number: role for role, number in values.ROLES.items()}
STATES: Final = {
    TaskState.QUEUED: task_pb2.TASK_STATE_QUEUED,
    TaskState.RUNNING: task_pb2.TASK_STATE_RUNNING,
    TaskState.WAITING: task_pb2.TASK_STATE_WAITING,
    TaskState.COMPLETED: task_pb2.TASK_STATE_COMPLETED,
    TaskState.FAILED: task_pb2.TASK_STATE_FAILED,
    TaskState.CANCELLED: task_pb2.TASK_STATE_CANCELLED,
    TaskState.EXPIRED: task_pb2.TASK_STATE_EXPIRED,
}
_STATES_FROM: Final = {int(number): state for state, number in STATES.items()}
_PRIORITIES: Final = {
    Priority.UNSPECIFIED: task_pb2.TASK_PRIORITY_UNSPECIFIED,
    Priority.HIGH: task_pb2.TASK_PRIORITY_HIGH,
    Priority.NORMAL: task_pb2.TASK_PRIORITY_NORMAL,
    Priority.LOW: task_pb2.TASK_PRIORITY_LOW,
}
_PRIORITIES_FROM: Final = {number: priority for priority, number in _PRIORITIES.items()}


def request_id_from(request_id: str) -> str:
    """Return a checked request_id. Raises: InvalidArgument."""
    if len(request_id) > MAX_REQUEST_ID_CHARACTERS:
        raise invalid("request_id", f"must be at most {MAX_REQUEST_ID_CHARACTERS} characters")
    if "\0" in request_id:
        raise invalid("request_id", "must not hold the character U+0000")
    return request_id


def states_from(states: Iterable[int]) -> tuple[TaskState, ...]:
    """Return the states of a filter. Raises: InvalidArgument."""
    unknown = [state for state in states if state not in _STATES_FROM]
    if unknown:
        raise invalid("states", f"holds a value that is no state: {unknown[0]}")
    return tuple(_STATES_FROM[state] for state in states)


def spec_from(spec: task_pb2.TaskSpec, now: datetime) -> TaskSpec:
    """Return what is asked. Raises: InvalidArgument naming the field."""
    if not spec.agent:
        raise invalid("spec.agent", "must not be empty")
    for field in ("agent", "model"):
        if len(getattr(spec, field)) > MAX_NAME_CHARACTERS or "\0" in getattr(spec, field):
            raise invalid(f"spec.{field}", f"must be at most {MAX_NAME_CHARACTERS} characters")
    if len(spec.knowledge_base_ids) > MAX_KNOWLEDGE_BASES:
        raise invalid("spec.knowledge_base_ids", f"must be at most {MAX_KNOWLEDGE_BASES}")
    if not 0 <= spec.max_steps <= MAX_STEPS:
        raise invalid("spec.max_steps", f"must be 0 to {MAX_STEPS}")
    if spec.priority not in _PRIORITIES_FROM:
        raise invalid("spec.priority", "is no priority")
    start_time = _start_from(spec, now) if spec.HasField("start_time") else None
    begins = now if start_time is None else max(now, start_time)
    return TaskSpec(
        agent=spec.agent,
        messages=_messages_from(spec),
        session_id=parse_id(spec.session_id, "spec.session_id") if spec.session_id else "",
        model=spec.model,
        knowledge_base_ids=tuple(spec.knowledge_base_ids),
        max_steps=spec.max_steps,
        deadline=_deadline_from(spec, begins) if spec.HasField("deadline") else None,
        priority=_PRIORITIES_FROM[spec.priority],
        input=_object_from(spec, "input", MAX_INPUT_BYTES),
        metadata=_object_from(spec, "metadata", MAX_METADATA_BYTES),
        budget=budget_from(spec),
        start_time=start_time,
    )


def _messages_from(spec: task_pb2.TaskSpec) -> tuple[Message, ...]:
    if not 1 <= len(spec.messages) <= MAX_MESSAGES:
        raise invalid("spec.messages", f"must be 1 to {MAX_MESSAGES}, are {len(spec.messages)}")
    size = 0
    for index, message in enumerate(spec.messages):
        _check(message, f"spec.messages[{index}]")
        size += sum(len(part.text.encode()) for part in message.parts)
    if size > MAX_TEXT_BYTES:
        raise invalid("spec.messages", f"text must be at most {MAX_TEXT_BYTES} bytes, has {size}")
    if spec.messages[-1].role != message_pb2.ROLE_USER:
        raise invalid(f"spec.messages[{len(spec.messages) - 1}].role", "the last must be USER's")
    return tuple(_message_from(message) for message in spec.messages)


def _check(message: message_pb2.Message, field: str) -> None:
    if message.role not in _ROLES:
        raise invalid(f"{field}.role", "must be SYSTEM, USER, ASSISTANT or TOOL")
    if not message.parts and not message.tool_calls:
        raise invalid(f"{field}.parts", "must not be empty")
    for index, part in enumerate(message.parts):
        _check_part(part, f"{field}.parts[{index}]")
    if message.tool_calls and message.role != message_pb2.ROLE_ASSISTANT:
        raise invalid(f"{field}.tool_calls", "only an ASSISTANT's message has tool calls")
    if len(message.tool_calls) > MAX_CALLS_OF_MESSAGE:
        raise invalid(f"{field}.tool_calls", f"must be at most {MAX_CALLS_OF_MESSAGE}")
    if bool(message.tool_call_id) != (message.role == message_pb2.ROLE_TOOL):
        raise invalid(f"{field}.tool_call_id", "belongs to every TOOL message and to no other")


def _check_part(part: message_pb2.ContentPart, field: str) -> None:
    kind = part.WhichOneof("kind")
    if kind is None:
        raise invalid(field, "must hold a text or an image")
    if kind == "text":
        return
    image = part.image
    if not image.url and not image.data:
        raise invalid(f"{field}.image", "must have a url or data")
    if image.url and not image.url.startswith("https://"):
        raise invalid(f"{field}.image.url", "must be an https address")
    if image.data and not image.media_type:
        raise invalid(f"{field}.image.media_type", "is required with data")
    if len(image.data) > MAX_IMAGE_BYTES:
        raise invalid(f"{field}.image.data", f"must be at most {MAX_IMAGE_BYTES} bytes")


def _message_from(message: message_pb2.Message) -> Message:
    return Message(
        role=_ROLES[message.role],
        parts=tuple(values.part_from(part) for part in message.parts),
        tool_calls=values.calls_from(message.tool_calls),
        tool_call_id=message.tool_call_id,
        name=message.name,
    )


def _start_from(spec: task_pb2.TaskSpec, now: datetime) -> datetime:
    moment = _moment_from(spec.start_time, "spec.start_time")
    if moment > now + MAX_DELAY:
        raise invalid("spec.start_time", f"must be at most {MAX_DELAY.days} days away")
    return moment


def _deadline_from(spec: task_pb2.TaskSpec, begins: datetime) -> datetime:
    moment = _moment_from(spec.deadline, "spec.deadline")
    if moment > begins + MAX_DURATION:
        raise invalid("spec.deadline", "must be at most 24 hours away, or after start_time")
    if spec.HasField("start_time") and moment <= begins:
        raise invalid("spec.deadline", "must be after start_time")
    return moment


def _moment_from(time: timestamp_pb2.Timestamp, field: str) -> datetime:
    try:
        return time.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise invalid(field, "is not a time") from None


def _object_from(
    spec: task_pb2.TaskSpec, field: Literal["input", "metadata"], max_bytes: int
) -> JsonObject | None:
    if not spec.HasField(field):
        return None
    struct: struct_pb2.Struct = getattr(spec, field)
    check_struct(struct, f"spec.{field}")
    value = json_format.MessageToDict(struct)
    size = len(orjson.dumps(value))
    if size > max_bytes:
        raise invalid(f"spec.{field}", f"must be at most {max_bytes} bytes as JSON, has {size}")
    return value


def task_message(task: Task) -> task_pb2.Task:
    """Return a stored task as the wire shows it."""
    message = task_pb2.Task(
        task_id=task.task_id,
        spec=spec_message(task.spec),
        state=STATES[task.state],
        attempt=task.attempt,
        step_count=task.step_count,
        usage=values.usage_message(task.usage),
        created_by=task.owner.subject,
        parent_task_id=task.parent_task_id,
        root_task_id=task.root_task_id,
        depth=task.depth,
        agent_version=task.limits.agent_version,
    )
    if task.result is not None:
        message.result.CopyFrom(final_message(task.result))
    if task.failure is not None:
        message.error.CopyFrom(error_message(task.failure))
    message.create_time.FromDatetime(task.created_at)
    message.update_time.FromDatetime(task.updated_at)
    if task.ended_at is not None:
        message.end_time.FromDatetime(task.ended_at)
    return message


def spec_message(spec: TaskSpec) -> task_pb2.TaskSpec:
    """Return what was asked as the wire shows it."""
    message = task_pb2.TaskSpec(
        agent=spec.agent,
        messages=map(values.message_message, spec.messages),
        session_id=spec.session_id,
        model=spec.model,
        knowledge_base_ids=spec.knowledge_base_ids,
        max_steps=spec.max_steps,
        priority=_PRIORITIES[spec.priority],
        input=values.struct_message(spec.input),
        metadata=values.struct_message(spec.metadata),
        budget=budget_message(spec.budget),
    )
    if spec.deadline is not None:
        message.deadline.FromDatetime(spec.deadline)
    if spec.start_time is not None:
        message.start_time.FromDatetime(spec.start_time)
    return message
