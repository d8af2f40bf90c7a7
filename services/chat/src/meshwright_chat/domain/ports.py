"""What chat needs from outside."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from meshwright_chat.domain.models import (
    AgentEvent,
    AgentResult,
    Citation,
    Ending,
    Entry,
    Fenced,
    Turn,
    TurnRequest,
    Usage,
)
from meshwright_chat.domain.waiting import Interrupt


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What a turn needs to know of its session."""

    session_id: str
    agent: str
    knowledge_base_ids: tuple[str, ...]
    summarised_sequence: int = 0


@dataclass(frozen=True, slots=True)
class Committed:
    """Where session stored the answer. `summary_due`: enough turns wait to be summarised."""

    message_id: str
    context_version: int
    summary_due: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """Result of opening a turn. `existed`: the request_id is known and the turn is its turn."""

    turn: Turn
    existed: bool


class Quota(Protocol):
    """What a tenant may do at the moment."""

    @property
    def active(self) -> bool:
        """Whether its members may call."""
        ...

    @property
    def concurrent_turns(self) -> int:
        """Turns that may run at the same time; 0: any number."""
        ...

    def refuse_turns(self, running: int) -> None:
        """Raises: QuotaExceeded when no further turn may begin beside so many."""
        ...


class Quotas(Protocol):
    """The quotas of tenants, a few seconds old at most."""

    async def admit(self, tenant_id: str) -> Quota:
        """Return the quota of a tenant that may begin something now.

        Raises: FailedPrecondition (TENANT_SUSPENDED), QuotaExceeded for tokens, Unavailable.
        """
        ...

    async def of(self, tenant_id: str) -> Quota:
        """Return a tenant's quota. Raises: Unavailable."""
        ...


class Sessions(Protocol):
    """The conversations, kept by the session service."""

    async def find(self, session_id: str) -> SessionFacts:
        """Raises: NotFound with reason SESSION_NOT_FOUND."""
        ...

    async def create(self, title: str, request_id: str) -> SessionFacts:
        """Create a session; the same `request_id` means the same session."""
        ...

    async def begin(self, session_id: str, turn_id: str, question: str) -> Sequence[object]:
        """Store the user's message, once; return the latest messages up to it, oldest first.

        The same however often it is called for `turn_id`, whatever the session says since. Opaque
        to the domain. What is stored may be lost when the session's database crashes right after:
        `commit` stores it again.
        """
        ...

    async def commit(
        self, session_id: str, turn_id: str, question: str, result: AgentResult
    ) -> Committed:
        """Store what the turn added, behind its question; once, however often for `turn_id`."""
        ...

    async def keep(
        self, session_id: str, turn_id: str, question: str, said: str, usage: Usage
    ) -> Committed:
        """Store what a stopped turn had said as its answer, marked as interrupted; as `commit`."""
        ...

    async def withdraw(self, session_id: str, turn_id: str, *, forget: bool) -> None:
        """Take a turn out of the conversation: nothing of it is stored any more. Idempotent.

        `forget`: what was learned of it goes, too. Raises: NotFound (SESSION_NOT_FOUND).
        """
        ...


class Agents(Protocol):
    """Agents, run by the orchestrator."""

    def execute(
        self, turn: Turn, history: Sequence[object]
    ) -> AbstractAsyncContextManager[AsyncIterator[AgentEvent]]:
        """Run, or go on with, the task of `turn`: the turn's id is its idempotency key.

        The last event is an AgentResult or Failed. Leaving the block ends the watching only.
        """
        ...

    def go_on(self, turn: Turn) -> AbstractAsyncContextManager[AsyncIterator[AgentEvent]]:
        """Do as `execute`, for a turn with a pause: what was told before it is not told again."""
        ...

    async def open_interrupts(self, task_id: str) -> tuple[Interrupt, ...]:
        """Return what the task waits for a person for. Empty: it goes on, or has ended."""
        ...

    async def cancel(self, task_id: str) -> Fenced:
        """Return when no further step of the task can start. A finished task is left alone."""
        ...

    async def claim(self, turn: Turn, history: Sequence[object]) -> str:
        """Return the id of the task of `turn`; one that was never accepted is made."""
        ...

    async def summarise(self, turn: Turn, batch: str) -> None:
        """Have the turns of the session that are due summarised, by a task that nobody waits for.

        One task a `batch`; another one when that has ended, and turns are due all the same.
        """
        ...


class Turns(Protocol):
    """The stored turns: the truth about who owns which, and how each ended."""

    async def open(self, turn: Turn, request: TurnRequest, quota: Quota | None = None) -> Opened:
        """Store a running turn with a lease for this process.

        A turn that another one `regenerates` is marked as withdrawn with it. Raises:
        RequestIdReused; TurnInProgress naming the turn that has the session's place; TurnNotEnded;
        QuotaExceeded when the tenant has as many running as `quota` lets it.
        """
        ...

    async def known(self, tenant_id: str, subject: str, request: TurnRequest) -> Turn | None:
        """Return the turn that the request_id stands for, if this user has used it.

        Raises: RequestIdReused.
        """
        ...

    async def find(self, tenant_id: str, turn_id: str) -> Turn:
        """Raises: TurnNotFound."""
        ...

    async def list_of_session(
        self, tenant_id: str, subject: str, session_id: str, *, before: str, limit: int
    ) -> Sequence[Turn]:
        """Return the user's turns of a session, newest first, older than turn `before`."""
        ...

    async def count_running(self, tenant_id: str) -> int:
        """Return how many turns of a tenant have not ended, wherever they run."""
        ...

    async def set_task(self, turn: Turn, task_id: str) -> None:
        """Note the task behind the turn. Raises: LeaseLost."""
        ...

    async def end(
        self,
        turn: Turn,
        ending: Ending,
        *,
        usage: Usage,
        citations: Sequence[Citation],
        last_sequence: int,
    ) -> None:
        """Write the final state, if this process still owns the turn. Raises: LeaseLost."""
        ...

    async def cancel(self, tenant_id: str, turn_id: str, cancelled_by: str) -> Turn:
        """Fence the running attempt and set CANCELLED; a finished turn is returned as it is, and
        one that is being stopped.

        Raises: TurnNotFound.
        """
        ...

    async def renew(self, turns: Sequence[Turn]) -> frozenset[str]:
        """Extend the leases of these turns; return the ids of those that are still ours."""
        ...

    async def take_over(self, limit: int) -> Sequence[Turn]:
        """Own up to `limit` running turns whose lease ran out: attempt and epoch are one higher."""
        ...


class Journal(Protocol):
    """The events of turns, readable by every process for 24 hours. Fast, and allowed to be away."""

    async def append(
        self, turn: Turn, entries: Sequence[Entry], *, held_from: int | None = None
    ) -> None:
        """Append in order. `held_from`: the first sequence that the caller still has.

        Raises: LeaseLost when a higher epoch has written; EntriesForgotten when the journal lacks
        entries before these that the caller has; Unavailable.
        """
        ...

    async def fence(self, turn: Turn) -> None:
        """Take no more from processes with an older lease of the turn. Raises: Unavailable."""
        ...

    async def last_sequence(self, tenant_id: str, turn_id: str) -> int:
        """Return the sequence of the last event; 0 when there is none. Raises: Unavailable."""
        ...

    async def read(
        self, tenant_id: str, turn_id: str, *, after_sequence: int, wait_seconds: float
    ) -> Sequence[Entry]:
        """Return the events after `after_sequence`; wait for one up to `wait_seconds`.

        Raises: Unavailable.
        """
        ...
