"""Tasks: what was asked, how far it got, how it ended."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from meshwright_common.context import Principal
from meshwright_orchestrator.domain.conversation import JsonObject, Message
from meshwright_orchestrator.domain.task_budget import NO_BUDGET, TaskBudget


class TaskState(StrEnum):
    """State of a task. The last four are final."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        """Whether it never changes again."""
        return self in FINAL_STATES


FINAL_STATES: Final = frozenset(
    {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.EXPIRED}
)


class Priority(StrEnum):
    """Lane of a task in the work queues."""

    UNSPECIFIED = "unspecified"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and cost, as types/v1/usage.proto describes them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_micro_usd: int = 0
    estimated: bool = False

    def __add__(self, other: "Usage") -> "Usage":
        if other is NO_USAGE:
            return self
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.cost_micro_usd + other.cost_micro_usd,
            self.estimated or other.estimated,
        )


NO_USAGE: Final = Usage()


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
class TaskSpec:
    """What an agent is asked to do, as orchestrator/v1/task.proto describes it."""

    agent: str
    messages: tuple[Message, ...]
    session_id: str = ""
    model: str = ""
    knowledge_base_ids: tuple[str, ...] = ()
    max_steps: int = 0
    deadline: datetime | None = None
    priority: Priority = Priority.UNSPECIFIED
    input: JsonObject | None = None
    metadata: JsonObject | None = None
    budget: TaskBudget = NO_BUDGET
    start_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a task, fixed when it is accepted so that a replay decides by the same ones.

    `history_tokens` is an estimate: three bytes of UTF-8 count as one token. `memory_top_k` 0: the
    agent is not told what is remembered, as in tasks of the first engine. `agent_version` 0: the
    agent comes with the platform; from 1 it is the version of a defined one that answers.
    """

    max_steps: int = 25
    history_tokens: int = 16_000
    recall_top_k: int = 6
    memory_top_k: int = 0
    agent_version: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """Result of a task. `messages` are those that the agent added, oldest first."""

    answer: str
    citations: tuple[Citation, ...] = ()
    messages: tuple[Message, ...] = ()
    usage: Usage = NO_USAGE
    output: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task has no result. `reason` is a name of meshwright.errors.v1.ErrorReason."""

    reason: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Task:
    """A task as stored. `owner` is the principal that it acts for, also after a crash. `detached`:
    it was handed to the workers, nobody waits for it.

    `remaining_seconds` until its deadline and `lease_expired` are as of the reading, on the
    database's clock. `waits`: how often it waited; each wait began a new attempt. `away_seconds`:
    for how long its step has been waiting for a service of ours that is away. A child names its
    parent; every task of a tree names the root, which has depth 0. Alone, it names neither. One
    that does the work of a workflow's step names the run. `trace`: of its submission, as
    `kept_trace.joined`; "": unknown.
    """

    task_id: str
    owner: Principal
    correlation_id: str
    spec: TaskSpec
    limits: Limits
    engine_version: int
    state: TaskState
    attempt: int
    lease_epoch: int
    created_at: datetime
    updated_at: datetime
    remaining_seconds: float
    lease_expired: bool = False
    step_count: int = 0
    usage: Usage = NO_USAGE
    result: Result | None = None
    failure: Failure | None = None
    ended_at: datetime | None = None
    detached: bool = False
    waits: int = 0
    away_seconds: float = 0.0
    parent_task_id: str = ""
    root_task_id: str = ""
    workflow_run_id: str = ""
    depth: int = 0
    trace: str = ""

    @property
    def tenant_id(self) -> str:
        """Tenant of the task."""
        return self.owner.tenant_id
