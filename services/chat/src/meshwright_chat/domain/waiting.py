"""What a turn waits for: a person who is asked, or the turn before it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ProposedCall:
    """The exact tool call that a person is to approve."""

    tool_call_id: str
    name: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class Interrupt:
    """A person is asked; an event of the turn. As types of orchestrator/v1/task.proto say.

    `kind` is "question", "approval" or empty when a later version asks for something else.
    """

    interrupt_id: str
    task_id: str
    kind: str
    question: str
    payload: Mapping[str, object] | None
    answer_schema: Mapping[str, object] | None
    call: ProposedCall | None
    created_at: datetime | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Asked:
    """The task behind a turn asks a person, and what of its stream holds whatever happens.

    `position` leads back to here. `kept_characters` of the answer were told before and stay; with
    `loose`, others that were told come again.
    """

    interrupt: Interrupt
    position: int
    kept_characters: int
    loose: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Where a turn waits for a person: its open interrupts, and where its task goes on from."""

    interrupts: tuple[Interrupt, ...]
    position: int
    kept_characters: int
    loose: bool = False


@dataclass(frozen=True, slots=True)
class Queued:
    """The turn waits for others of its session; an event of it, always sequence 1."""

    session_id: str
    position: int
    running_turn_id: str
    expires_at: datetime
