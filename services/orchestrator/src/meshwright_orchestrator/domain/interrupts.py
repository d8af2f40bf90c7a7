"""What tasks ask people, as it is kept until somebody answers."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import orjson

from meshwright_orchestrator.domain.conversation import JsonObject, ToolCall
from meshwright_orchestrator.domain.waiting import Answer, Question

OPEN = "open"
ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class Interrupt:
    """A question of a task. `state` is open, answered, expired or closed (its task ended before).

    `answer` and `request_id`, of the call that answered it, are there once it is answered.
    """

    interrupt_id: str
    task_id: str
    subject: str
    agent: str
    session_id: str
    question: Question
    state: str
    created_at: datetime
    expires_at: datetime
    answer: Answer | None = None
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class OpenFilter:
    """Which open interrupts to list, oldest first. Empty fields do not filter.

    `after`: creation time and id of the last one that was seen.
    """

    subject: str = ""
    task_id: str = ""
    after: tuple[datetime, str] | None = None
    limit: int = 50


class Interrupts(Protocol):
    """The stored interrupts."""

    async def find(self, tenant_id: str, task_id: str, interrupt_id: str) -> Interrupt | None:
        """Return one of the task's, whatever became of it; None: the task asked no such thing."""
        ...

    async def open_of(self, tenant_id: str, wanted: OpenFilter) -> Sequence[Interrupt]:
        """Return those that can be answered now."""
        ...

    async def answer(
        self, tenant_id: str, asked: Interrupt, value: JsonObject, request_id: str
    ) -> bool:
        """Store the caller's answer with its audit event, and queue the task again when that is
        all it waits for: one transaction. Returns False when it is no longer open.
        """
        ...


def digest_of(call: ToolCall) -> str:
    """Return the SHA-256 of a call that was decided on, for records that keep no content."""
    return hashlib.sha256(orjson.dumps([call.id, call.name, call.arguments_json])).hexdigest()
