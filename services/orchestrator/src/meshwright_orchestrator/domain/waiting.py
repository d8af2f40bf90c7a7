"""What a task may wait for without holding a worker: people, other agents, a time.

A step that waits has a command and, when all it waited for is there, an outcome as any other step.
In between the task is WAITING: nobody owns it, and nothing of it is in any process's memory.
"""

import hashlib
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from meshwright_orchestrator.domain.conversation import JsonObject, Message, ToolCall
from meshwright_orchestrator.domain.models import (
    NO_USAGE,
    Citation,
    Failure,
    TaskState,
    Usage,
)

MAX_QUESTIONS: Final = 16
"""Questions of one step: as many as a message has tool calls."""
MAX_CHILDREN: Final = 16
"""Children of one step."""


class InterruptKind(StrEnum):
    """What a person is asked for."""

    QUESTION = "question"
    APPROVAL = "approval"


@dataclass(frozen=True, slots=True)
class Question:
    """What a person is asked. `call`: the exact call to approve. `answer_schema`: JSON Schema.

    `payload` is what a graph shows in a form of its own. `expires_seconds` after it was asked
    nobody can answer any more; 0: the platform's default.
    """

    kind: InterruptKind
    text: str
    call: ToolCall | None = None
    answer_schema: JsonObject | None = None
    expires_seconds: float = 0.0
    payload: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a question. To an approval `value` is `{"approved": …, "comment": …}`.

    `expired`: nobody answered in time, and `value` is empty or refuses.
    """

    interrupt_id: str
    value: JsonObject
    answered_by: str = ""
    expired: bool = False


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What a task hands to another agent. All else is the parent's: owner, session, lane, deadline.

    `call_id`: the tool call of the model that asked for it. An empty `model` is the agent's.
    """

    agent: str
    messages: tuple[Message, ...]
    input: JsonObject | None = None
    knowledge_base_ids: tuple[str, ...] = ()
    model: str = ""
    max_steps: int = 0
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class ChildResult:
    """How a child ended. `citations` carry the numbers that its answer uses."""

    task_id: str
    agent: str
    state: TaskState
    answer: str = ""
    output: JsonObject | None = None
    failure: Failure | None = None
    citations: tuple[Citation, ...] = ()
    usage: Usage = NO_USAGE


@dataclass(frozen=True, slots=True)
class Ask:
    """Command: wait for the answers of people to all questions."""

    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Delegate:
    """Command: let other agents work, all at once, and wait for all of them."""

    children: tuple[ChildSpec, ...]


@dataclass(frozen=True, slots=True)
class Sleep:
    """Command: wait for a time."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Asked:
    """Outcome: the questions and their answers, in the same order."""

    questions: tuple[Question, ...]
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Delegated:
    """Outcome: how the children ended, in the order in which they were named."""

    results: tuple[ChildResult, ...]


@dataclass(frozen=True, slots=True)
class Slept:
    """Outcome: the time has come."""

    seconds: float


def interrupt_id(task_id: str, step: int, index: int) -> str:
    """Return the id of a step's question, the same in every attempt. `index` from 0."""
    return str(uuid.uuid5(uuid.UUID(task_id), f"interrupt/{step}/{index}"))


def child_id(task_id: str, step: int, index: int) -> str:
    """Return the id of a step's child, the same in every attempt. `index` from 0.

    A UUID of version 7 with the time of its parent's id: lists that are ordered by id show it
    beside its parent.
    """
    parent = uuid.UUID(task_id)
    digest = hashlib.sha256(f"{parent}/child/{step}/{index}".encode()).digest()
    value = int.from_bytes(parent.bytes[:6] + digest[:10], "big")
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return str(uuid.UUID(int=value))
