"""What the orchestrator needs from outside."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from meshwright_common.context import Principal
from meshwright_orchestrator.domain.agents import AgentSpec
from meshwright_orchestrator.domain.conversation import (
    JsonObject,
    Message,
    ToolCall,
    ToolOffer,
    ToolUse,
)
from meshwright_orchestrator.domain.journal import ModelAnswered, Recalled, Step, ToolResult
from meshwright_orchestrator.domain.models import (
    NO_USAGE,
    Failure,
    Limits,
    Priority,
    Result,
    Task,
    TaskSpec,
    TaskState,
    Usage,
)

AGENT: Final = "agent"

Tell: TypeAlias = Callable[[str, str], None]
"""Takes a piece of text and a piece of reasoning, either maybe empty. Never waits."""
Withdraw: TypeAlias = Callable[[], None]
"""Takes back all that was told of this message: it begins anew. Never waits."""


@dataclass(frozen=True, slots=True)
class StepKey:
    """Which work a call to a peer belongs to: its effect and its usage are recorded once a key."""

    task_id: str
    step: int
    attempt: int
    session_id: str = ""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """A message to generate. An empty `model` is the default one.

    `feature` is what usage records say the call is for; `agent` says how its model works, if it
    has a say in that. `output_schema`: the text should be JSON that fits it.
    """

    key: StepKey
    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolOffer, ...]
    tool_use: ToolUse
    feature: str = AGENT
    agent: AgentSpec | None = None
    output_schema: JsonObject | None = None

    @property
    def fallback_models(self) -> tuple[str, ...]:
        """Models that are asked when `model` cannot answer, in order."""
        return () if self.agent is None else self.agent.fallback_models


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """A tool call to make; `index` of the call in its step, from 0."""

    key: StepKey
    index: int
    call: ToolCall
    knowledge_base_ids: tuple[str, ...]


class Retriever(Protocol):
    """The documents, searched by the rag service under the caller's rights."""

    async def search(
        self, query: str, *, knowledge_base_ids: Sequence[str], top_k: int
    ) -> Recalled:
        """Return up to `top_k` passages, best first, numbered from 1.

        Raises: NotFound (KNOWLEDGE_BASE_NOT_FOUND); PermissionDenied; Unavailable.
        """
        ...


class Models(Protocol):
    """Models, called by the model router, which retries and falls back by itself."""

    async def generate(
        self, request: ModelRequest, tell: Tell, withdraw: Withdraw
    ) -> ModelAnswered:
        """Generate a message, telling each piece at once; return it whole.

        When the model's stream breaks and another one begins, the pieces so far are withdrawn.
        Being cancelled ends the generation. Raises: the router's error; AnswerTruncated.
        """
        ...


class Tools(Protocol):
    """Tools, run by tool-exec under the caller's rights."""

    async def offered(self) -> tuple[ToolOffer, ...]:
        """Return the tools that the caller may use, by name, at most 128."""
        ...

    async def execute(self, request: ToolRequest) -> ToolResult:
        """Make a call and return its outcome; the same key again returns the recorded one.

        A tool that fails has a result with `is_error`. Being cancelled stops the tool.
        Raises: the error of a call that could not be made.
        """
        ...


@dataclass(frozen=True, slots=True)
class Accepted:
    """Result of accepting. `existed`: the request_id is known and the task is its task."""

    task: Task
    existed: bool


@dataclass(frozen=True, slots=True)
class Queueing:
    """Where a task waits for a worker: queues have a kind and three lanes. `trace`: see `Task`."""

    kind: str
    priority: Priority
    trace: str


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to store. `max_seconds` 0: it ends by its own deadline, or the platform's time.

    A child names its parent and the root of their tree.
    """

    task_id: str
    owner: Principal
    correlation_id: str
    spec: TaskSpec
    limits: Limits
    engine_version: int
    request_id: str
    max_seconds: float = 0.0
    parent_task_id: str = ""
    root_task_id: str = ""
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Ending:
    """How a task ends. `steps`: those not journaled yet, stored together with it."""

    state: TaskState
    result: Result | None = None
    failure: Failure | None = None
    steps: tuple[Step, ...] = ()
    usage: Usage = NO_USAGE


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks to list, newest first. Empty fields do not filter."""

    subject: str = ""
    states: tuple[TaskState, ...] = ()
    session_id: str = ""
    before: str = ""
    limit: int = 50


class Quotas(Protocol):
    """The quotas of tenants, a few seconds old at most."""

    async def admit(self, tenant_id: str) -> object:
        """Let a tenant begin something.

        Raises: FailedPrecondition (TENANT_SUSPENDED), QuotaExceeded for tokens, Unavailable.
        """
        ...


class Tasks(Protocol):
    """The stored tasks and their journals: the truth about who owns which, and how each ended."""

    async def accept(self, new: NewTask) -> Accepted:
        """Store a running task with a lease for this process. Raises: RequestIdReused."""
        ...

    async def enqueue(self, new: NewTask, queueing: Queueing) -> Accepted:
        """Store a task for the workers, due to be dispatched now. Raises: RequestIdReused."""
        ...

    async def known(self, new: NewTask) -> Task | None:
        """Return the task that its request_id stands for, if there is one.

        Raises: RequestIdReused.
        """
        ...

    async def claim(
        self, tenant_id: str, task_ids: Sequence[str], engine_versions: Sequence[int]
    ) -> Sequence[Task]:
        """Own those of the tasks that still wait for a worker, each with a lease."""
        ...

    async def find(self, tenant_id: str, task_id: str) -> Task:
        """Raises: TaskNotFound."""
        ...

    async def read(
        self, tenant_id: str, task_id: str, *, after_step: int
    ) -> tuple[Task, Sequence[Step]]:
        """Return the task and its steps after `after_step`, as of one moment.

        Raises: TaskNotFound.
        """
        ...

    async def list(self, tenant_id: str, wanted: TaskFilter) -> Sequence[Task]:
        """Return tasks without their messages."""
        ...

    async def commit_steps(self, task: Task, steps: Sequence[Step], usage: Usage) -> None:
        """Journal steps and the task's usage with them, all or nothing. Idempotent.

        Raises: LeaseLost.
        """
        ...

    async def end(self, task: Task, ending: Ending) -> None:
        """Write the final state, its event and the last steps, all or nothing.

        Raises: LeaseLost.
        """
        ...

    async def postpone(self, task: Task, seconds: float, *, away: bool = False) -> None:
        """Give the lease up and queue the task, due after so long. `away`: its step waits for a
        service of ours, as for anything else that it waits for. Raises: LeaseLost.
        """
        ...

    async def let_go(self, task: Task) -> None:
        """Let the lease of a running task end now; it waited for a service of ours.

        Raises: LeaseLost.
        """
        ...

    async def cancel(self, tenant_id: str, task_id: str) -> Task:
        """Fence the running attempt and set CANCELLED, with its event; a final task is returned
        as it is. Raises: TaskNotFound.
        """
        ...

    async def renew(self, tasks: Sequence[Task]) -> frozenset[str]:
        """Extend the leases of these tasks; return the ids of those that are still ours."""
        ...

    async def release(self, tasks: Sequence[Task]) -> None:
        """Let the leases of these tasks end now, so that another process takes them over."""
        ...

    async def take_over(self, task: Task) -> Task | None:
        """Own the task if its lease ran out: attempt and epoch are one higher. None: it has not."""
        ...

    async def take_over_lost(
        self, limit: int, engine_versions: Sequence[int]
    ) -> Sequence[tuple[str, str]]:
        """Own up to `limit` tasks whose lease ran out and whose engine is known here, or whose
        deadline passed. Returns (tenant_id, task_id).
        """
        ...

    async def prune(self, retention_days: int, limit: int) -> int:
        """Delete up to `limit` tasks that ended longer ago, journals too; return how many."""
        ...


@dataclass(frozen=True, slots=True)
class Waiting:
    """A task that waits for a worker. `dispatches`: how often its queue had it before."""

    tenant_id: str
    task_id: str
    kind: str
    priority: Priority
    trace: str
    dispatches: int
    remaining_seconds: float


class Backlogs(Protocol):
    """The tasks that wait for a worker: what the work queues are filled, and refilled, from."""

    async def pick(
        self, most: int, *, hold_seconds: float, most_offers: int, most_of_lane: int
    ) -> Sequence[Waiting]:
        """Return tasks that are due; nobody else picks them for `hold_seconds`.

        Tenants with the least in the queues and at work come first. No more of a lane is picked
        than makes `most_of_lane` in the queues. Interactive tasks that were offered
        `most_offers` times are left out.
        """
        ...

    async def dispatched(self, tasks: Sequence[tuple[Waiting, float]]) -> None:
        """The queues have these tasks; each is due again after so many seconds."""
        ...

    async def dispatch_again(self, most: int) -> int:
        """The queues may have lost what they had: up to `most` tasks are due now."""
        ...

    async def overdue(self, most: int, most_offers: int) -> Sequence[tuple[str, str]]:
        """Return (tenant_id, task_id) of tasks to expire."""
        ...

    async def expire(self, tenant_id: str, task_id: str, most_offers: int) -> bool:
        """End an overdue task, with its event; return whether it still was one."""
        ...

    async def count(self, most: int) -> Mapping[Priority, int]:
        """Return how many tasks of each lane wait, counted to `most` together."""
        ...
