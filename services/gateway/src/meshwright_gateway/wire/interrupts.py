"""What tasks ask people: messages to JSON."""

from typing import TypeAlias

from meshwright.chat.v1 import turn_pb2
from meshwright.orchestrator.v1 import agent_service_pb2, task_pb2
from meshwright_common.errors import FieldViolation, InvalidArgument
from meshwright_gateway.http.schemas import interrupts as schemas
from meshwright_gateway.wire import values

AnyInterrupt: TypeAlias = task_pb2.TaskInterrupt | turn_pb2.Interrupt
"""Of a task, or of the turn that it works for: they have the same fields."""
_ANSWER = "answer"
_ON_THE_WIRE = "payload"


def interrupt_data(interrupt: AnyInterrupt) -> dict[str, object]:
    """Return an interrupt as events show it."""
    call = interrupt.tool_call
    return {
        "interrupt_id": interrupt.interrupt_id,
        "kind": values.enum_name(task_pb2.InterruptKind, interrupt.kind, "INTERRUPT_KIND_"),
        "question": interrupt.question,
        "payload": (
            values.object_from(interrupt.payload) if interrupt.HasField("payload") else None
        ),
        "answer_schema": (
            values.object_from(interrupt.answer_schema)
            if interrupt.HasField("answer_schema")
            else None
        ),
        "tool_call": (
            {"id": call.id, "name": call.name, "arguments_json": call.arguments_json}
            if interrupt.HasField("tool_call")
            else None
        ),
    }


def interrupt_fields(interrupt: AnyInterrupt) -> dict[str, object]:
    """Return an interrupt as views show it."""
    return interrupt_data(interrupt) | {
        "create_time": values.time_from(interrupt.create_time),
        "expire_time": values.time_from(interrupt.expire_time),
    }


def turn_interrupt(interrupt: turn_pb2.Interrupt) -> dict[str, object]:
    """Return an interrupt of a turn as views show it."""
    return interrupt_fields(interrupt) | {"task_id": interrupt.task_id}


def open_view(asked: agent_service_pb2.OpenInterrupt) -> schemas.OpenInterrupt:
    """Return an interrupt and its task as JSON shows them."""
    return schemas.OpenInterrupt.model_validate(
        {
            **interrupt_fields(asked.interrupt),
            "task_id": asked.task_id,
            "agent": asked.agent,
            "session_id": asked.session_id,
            "created_by": asked.created_by,
        }
    )


def renamed(error: InvalidArgument) -> InvalidArgument:
    """Return the refusal of an answer with fields named as in the body that it came in."""
    violations = tuple(
        FieldViolation(_ANSWER + one.field.removeprefix(_ON_THE_WIRE), one.description)
        if one.field.startswith(_ON_THE_WIRE)
        else one
        for one in error.field_violations
    )
    if not violations:
        return error
    text = "; ".join(f"{one.field}: {one.description}" for one in violations)
    return InvalidArgument(text, field_violations=violations)
