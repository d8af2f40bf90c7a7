"""Interrupts: what people are asked, as messages, and what they answer."""

from datetime import datetime
from typing import Final

from google.protobuf import json_format, struct_pb2

from meshwright.orchestrator.v1 import agent_service_pb2, task_pb2
from meshwright_common.errors import invalid
from meshwright_common.ids import parse_id
from meshwright_orchestrator.domain.answers import FIELD
from meshwright_orchestrator.domain.conversation import JsonObject
from meshwright_orchestrator.domain.interrupts import Interrupt
from meshwright_orchestrator.wire.questions import question_message
from meshwright_orchestrator.wire.structs import check_struct

EXACT_INTEGERS: Final = 2**53
"""Doubles beyond it stand for several integers."""


def interrupt_message(interrupt: Interrupt) -> task_pb2.TaskInterrupt:
    """Return a stored interrupt as the wire shows it."""
    message = question_message(interrupt.interrupt_id, interrupt.question)
    message.create_time.FromDatetime(interrupt.created_at)
    message.expire_time.FromDatetime(interrupt.expires_at)
    return message


def open_message(interrupt: Interrupt) -> agent_service_pb2.OpenInterrupt:
    """Return an interrupt with the task that waits for it."""
    return agent_service_pb2.OpenInterrupt(
        interrupt=interrupt_message(interrupt),
        task_id=interrupt.task_id,
        agent=interrupt.agent,
        session_id=interrupt.session_id,
        created_by=interrupt.subject,
    )


def answer_from(payload: struct_pb2.Struct) -> JsonObject:
    """Return an answer. Raises: InvalidArgument for numbers that JSON does not have."""
    check_struct(payload, FIELD)
    return {name: _whole(value) for name, value in json_format.MessageToDict(payload).items()}


def _whole(value: object) -> object:
    """Return a value with its whole numbers as integers: a Struct has only doubles."""
    match value:
        case float() if value.is_integer() and abs(value) <= EXACT_INTEGERS:
            return int(value)
        case dict():
            return {name: _whole(inner) for name, inner in value.items()}
        case list():
            return [_whole(inner) for inner in value]
        case _:
            return value


def position_of(interrupt: Interrupt) -> str:
    """Return where a page that ends with this one ends."""
    return f"{interrupt.created_at.isoformat()} {interrupt.interrupt_id}"


def position_from(text: str) -> tuple[datetime, str] | None:
    """Return where a page begins; None: at the start. Raises: InvalidArgument."""
    if not text:
        return None
    moment, _, interrupt_id = text.partition(" ")
    try:
        return datetime.fromisoformat(moment), parse_id(interrupt_id, "page.page_token")
    except ValueError:
        raise invalid("page.page_token", "is not a token of this list") from None
