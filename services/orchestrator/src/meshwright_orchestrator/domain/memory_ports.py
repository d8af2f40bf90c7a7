"""What agents remember and learn, kept by the session service under the owner's rights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from meshwright_orchestrator.domain.conversation import Message
from meshwright_orchestrator.domain.journal import Remembered


@dataclass(frozen=True, slots=True)
class KnownMemory:
    """A fact or preference that holds, as a new one may contradict it."""

    memory_id: str
    text: str
    topic: str


@dataclass(frozen=True, slots=True)
class SummaryBatch:
    """Turns that one summary covers. An empty `batch_id`: nothing is due."""

    batch_id: str = ""
    messages: Sequence[Message] = ()
    known: Sequence[KnownMemory] = ()


@dataclass(frozen=True, slots=True)
class Learned:
    """Something to remember of the user. `kind` is "fact" or "preference".

    `from_user`: it comes from what the user said; else it is never trusted.
    """

    kind: str
    text: str
    topic: str = ""
    confidence: float = 0.5
    from_user: bool = False
    supersedes: tuple[str, ...] = ()


class Memory(Protocol):
    """The memories of the task's owner."""

    async def recall(self, query: str, *, top_k: int) -> Sequence[Remembered]:
        """Return up to `top_k` memories that fit, best first.

        In time that nobody notices, or not at all. Raises: ServiceError.
        """
        ...

    async def summaries(self, session_id: str, *, most: int) -> Sequence[Remembered]:
        """Return the newest summaries of a session, oldest first. In time, as above.

        Raises: ServiceError.
        """
        ...

    async def next_batch(self, session_id: str) -> SummaryBatch:
        """Return the oldest turns of the session that are due to be summarised.

        Raises: NotFound (SESSION_NOT_FOUND); PermissionDenied; Unavailable.
        """
        ...

    async def store_summary(
        self, session_id: str, batch_id: str, summary: str, learned: Sequence[Learned]
    ) -> None:
        """Store a batch's summary with what was learned; once, however often it is called.

        Raises: NotFound; PermissionDenied; Unavailable.
        """
        ...
