"""Turns and the events of their streams."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from meshwright_chat.domain.teamwork import Handed, Planned
from meshwright_chat.domain.waiting import Asked, Interrupt, Pause, Queued
from meshwright_common.context import Principal

JsonObject: TypeAlias = Mapping[str, object]


class TurnState(StrEnum):
    """State of a turn. COMPLETED, FAILED and CANCELLED never change.

    WAITING is for a person, QUEUED for another turn; STOPPING is fenced, and not yet ended.
    """

    RUNNING = "running"
    WAITING = "waiting"
    STOPPING = "stopping"
    QUEUED = "queued"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """True when the turn has ended."""
        return self in {TurnState.COMPLETED, TurnState.FAILED, TurnState.CANCELLED}


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and cost, as types/v1/usage.proto describes them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_micro_usd: int = 0
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a statement comes from, as types/v1/message.proto describes it."""

    number: int
    document_id: str
    document_name: str
    page: int
    start_offset: int
    end_offset: int
    quote: str
    score: float
    chunk_id: str
    heading_path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What a user asks. Empty strings mean the session's or the platform's default.

    `regenerates`: the turn whose question is asked again.
    """

    session_id: str
    question: str
    agent: str
    model: str
    knowledge_base_ids: tuple[str, ...]
    request_id: str
    metadata: JsonObject
    regenerates: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn as stored. `owner` is the principal the turn acts for, also after a crash.

    `stop_policy` says what becomes of what it said when another one took its place; `pause` what
    it waits for; `withdrawn` that it left its session's conversation.
    """

    turn_id: str
    session_id: str
    owner: Principal
    agent: str
    model: str
    knowledge_base_ids: tuple[str, ...]
    question: str
    state: TurnState
    attempt: int
    lease_epoch: int
    created_at: datetime
    task_id: str = ""
    answer: str = ""
    citations: tuple[Citation, ...] = ()
    usage: Usage = Usage()
    message_id: str = ""
    context_version: int = 0
    error_reason: str = ""
    error_message: str = ""
    error_retryable: bool = False
    cancelled_by: str = ""
    ended_at: datetime | None = None
    last_sequence: int = 0
    stop_policy: str = ""
    pause: Pause | None = None
    waiting_since: datetime | None = None
    regenerates: str = ""
    withdrawn: bool = False
    was_queued: bool = False
    rating: int = 0
    rating_comment: str = ""

    @property
    def tenant_id(self) -> str:
        """Tenant of the turn."""
        return self.owner.tenant_id

    @property
    def is_cancelled(self) -> bool:
        """True when somebody stopped the turn, as opposed to another process owning it."""
        return self.state in {TurnState.CANCELLED, TurnState.STOPPING}


# --- events --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """The turn began; always sequence 1."""

    session_id: str
    agent: str


@dataclass(frozen=True, slots=True)
class Recalled:
    """Passages found for the question."""

    passages: tuple[Citation, ...]
    degraded: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of the model's reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """A tool is about to be called."""

    tool_call_id: str
    name: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class ToolAnswered:
    """A tool answered."""

    tool_call_id: str
    name: str
    result_json: str
    is_error: bool
    truncated: bool


@dataclass(frozen=True, slots=True)
class Cited:
    """A source of the answer."""

    citation: Citation


@dataclass(frozen=True, slots=True)
class Metered:
    """Consumption of the whole turn."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Restarted:
    """The answer begins anew, after a crash or because the model's stream broke: text beyond
    `keep_characters` is withdrawn."""

    attempt: int
    keep_characters: int


@dataclass(frozen=True, slots=True)
class Completed:
    """The end: an answer."""

    answer: str
    message_id: str
    context_version: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class Failed:
    """The end: an error."""

    reason: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The end: somebody cancelled."""

    cancelled_by: str


Ending: TypeAlias = Completed | Failed | Cancelled
TurnEvent: TypeAlias = (
    Started
    | Recalled
    | TextDelta
    | ReasoningDelta
    | ToolCalled
    | ToolAnswered
    | Cited
    | Metered
    | Restarted
    | Interrupt
    | Queued
    | Planned
    | Handed
    | Ending
)


@dataclass(frozen=True, slots=True)
class Entry:
    """An event at its place in the turn's journal."""

    turn_id: str
    sequence: int
    attempt: int
    time: datetime
    event: TurnEvent

    @property
    def is_last(self) -> bool:
        """True for the event that ends the turn."""
        return isinstance(self.event, Completed | Failed | Cancelled)


@dataclass(frozen=True, slots=True)
class AgentResult:
    """What the agent's task ended with."""

    answer: str
    citations: tuple[Citation, ...]
    added_messages: Sequence[object]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Fenced:
    """A task for which nothing more can start. `result`: it had come to its end before."""

    usage: Usage
    result: AgentResult | None = None


@dataclass(frozen=True, slots=True)
class TaskAccepted:
    """The orchestrator stored the task behind the turn."""

    task_id: str


AgentEvent: TypeAlias = (
    TaskAccepted
    | Restarted
    | Recalled
    | TextDelta
    | ReasoningDelta
    | ToolCalled
    | ToolAnswered
    | Asked
    | Planned
    | Handed
    | AgentResult
    | Failed
)
