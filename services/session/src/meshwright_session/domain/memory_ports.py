"""What remembering needs from stores and from the index. PostgreSQL is the truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from meshwright_session.domain.acts import Act
from meshwright_session.domain.memory_models import (
    Memory,
    MemoryDraft,
    MemoryFilter,
    Provenance,
    Selection,
)
from meshwright_session.domain.models import Owner, Request, StoredMessage


@dataclass(frozen=True, slots=True)
class IndexWork:
    """A memory whose index entry may not be what its row says. `epoch` counts such changes."""

    tenant_id: str
    user_id: str
    memory_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Remembered:
    """Memories as stored, and the work that their index has with them, held by the caller."""

    memories: Sequence[Memory]
    work: Sequence[IndexWork] = ()


@dataclass(frozen=True, slots=True)
class SummaryTurns:
    """The next batch of a session: the last message summarised, and the messages after it."""

    after: int
    messages: Sequence[StoredMessage]

    @property
    def last(self) -> int:
        """Sequence of the last message of the batch."""
        return self.messages[-1].sequence


class MemoryStore(Protocol):
    """Memories of one owner. Somebody else's are like absent ones."""

    async def remember(
        self,
        owner: Owner,
        drafts: Sequence[MemoryDraft],
        provenance: Provenance,
        batch: Request,
    ) -> Remembered:
        """Store memories by the rules, or return those that the same batch stored before.

        Raises: SessionNotFound, UserNotFound, IdempotencyKeyReused.
        """
        ...

    async def count(self, owner: Owner, wanted: MemoryFilter, most: int) -> int:
        """Return how many such memories hold, counted to `most`.

        Raises: SessionNotFound of the filter's session.
        """
        ...

    async def holding(
        self, owner: Owner, memory_ids: Sequence[str], wanted: MemoryFilter
    ) -> Sequence[Memory]:
        """Return those of these memories that hold and fit the filter, in any order."""
        ...

    async def newest(
        self, owner: Owner, wanted: MemoryFilter, limit: int, *, unindexed: bool = False
    ) -> Sequence[Memory]:
        """Return the newest that hold; `unindexed`: that the index may not know yet."""
        ...

    async def list(
        self,
        owner: Owner,
        wanted: MemoryFilter,
        before: str | None,
        limit: int,
        *,
        include_superseded: bool,
    ) -> Sequence[Memory]:
        """Return up to `limit` memories older than the id `before`, newest first.

        With `include_superseded` expired ones too. Raises: SessionNotFound.
        """
        ...

    async def forget(self, owner: Owner, selection: Selection, act: Act) -> int:
        """Remove memories and report `act`, unless none was there; return how many were."""
        ...


class SummaryStore(Protocol):
    """The turns of one owner's sessions that are not summarised yet."""

    async def next_batch(self, owner: Owner, session_id: str) -> SummaryTurns | None:
        """Return the oldest turns that one summary covers; None when there are fewer.

        Raises: SessionNotFound.
        """
        ...

    async def store(
        self,
        owner: Owner,
        session_id: str,
        sequences: tuple[int, int],
        drafts: Sequence[MemoryDraft],
    ) -> Remembered:
        """Store memories of the batch from the first of `sequences` to the last, and count it
        as summarised, all or nothing. Nothing, when it is not the session's next batch.

        Raises: SessionNotFound.
        """
        ...


class IndexQueue(Protocol):
    """Work on the index, of all tenants. Whoever holds work does it within the lease."""

    async def claim(self, most: int) -> Sequence[IndexWork]:
        """Hold up to `most` pieces of work that nobody holds."""
        ...

    async def texts(self, owner: Owner, memory_ids: Sequence[str]) -> dict[str, str]:
        """Return the texts of those that belong into the index: that hold."""
        ...

    async def settle(self, tenant_id: str, done: Sequence[IndexWork]) -> None:
        """End work that was done, unless the memory changed meanwhile: then it is due again."""
        ...

    async def postpone(self, work: Sequence[IndexWork], *, seconds: float) -> None:
        """Let work that could not be done be due again after some seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Hit:
    """A memory that the index finds; `score` in [0, 1]."""

    memory_id: str
    score: float


class MemoryIndex(Protocol):
    """Finds memories by meaning. Raises, every one: ServiceError, for whatever it cannot do now."""

    async def put(self, tenant_id: str, user_id: str, texts: dict[str, str]) -> None:
        """Index texts by the ids of their memories; they are found when it returns."""
        ...

    async def search(self, owner: Owner, query: str, most: int) -> Sequence[Hit]:
        """Return up to `most` memories of the owner, nearest first."""
        ...

    async def remove(self, tenant_id: str, user_id: str, memory_ids: Sequence[str]) -> None:
        """Remove memories; absent ones are fine."""
        ...
