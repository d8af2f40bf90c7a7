"""What is remembered of a user: facts, preferences, summaries, and where they come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from meshwright_session.domain.models import JsonObject, StoredMessage


class MemoryKind(StrEnum):
    """Kind of a memory."""

    FACT = "fact"
    PREFERENCE = "preference"
    SUMMARY = "summary"


class MemoryOrigin(StrEnum):
    """Who stands behind a memory."""

    USER = "user"
    MODEL = "model"
    UNTRUSTED = "untrusted"


@dataclass(frozen=True, slots=True)
class MemoryDraft:
    """A memory to store. `topic` is empty or what it is about; `supersedes` names memories."""

    kind: MemoryKind
    text: str
    origin: MemoryOrigin = MemoryOrigin.MODEL
    confidence: float = 1.0
    metadata: JsonObject | None = None
    expire_time: datetime | None = None
    topic: str = ""
    supersedes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where memories were learned."""

    session_id: str | None = None
    turn_id: str | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory as stored. It holds until it is superseded or expires."""

    memory_id: str
    user_id: str
    kind: MemoryKind
    text: str
    origin: MemoryOrigin
    provenance: Provenance
    confidence: float
    metadata: JsonObject
    topic: str
    superseded_by: str | None
    create_time: datetime
    update_time: datetime
    expire_time: datetime | None


@dataclass(frozen=True, slots=True)
class MemoryFilter:
    """Which memories: of these kinds (none: all), of this session (None: of any)."""

    kinds: tuple[MemoryKind, ...] = ()
    session_id: str | None = None

    @property
    def narrows(self) -> bool:
        """Whether it leaves anything out."""
        return bool(self.kinds) or self.session_id is not None


@dataclass(frozen=True, slots=True)
class RecallQuery:
    """A question to memory."""

    text: str
    top_k: int = 5
    wanted: MemoryFilter = MemoryFilter()
    min_score: float = 0.0


@dataclass(frozen=True, slots=True)
class RecalledMemory:
    """A memory that fits; `score` in [0, 1]."""

    memory: Memory
    score: float


@dataclass(frozen=True, slots=True)
class Recollection:
    """What was recalled, best first. `degraded`: parts that were missing."""

    memories: Sequence[RecalledMemory]
    degraded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """Memories to forget: these, or those of a session, or all."""

    memory_ids: tuple[str, ...] = ()
    session_id: str | None = None
    all: bool = False


@dataclass(frozen=True, slots=True)
class SummaryBatch:
    """Turns that one summary covers; `batch_id` is empty when nothing is due."""

    batch_id: str = ""
    messages: Sequence[StoredMessage] = ()
    known: Sequence[Memory] = ()
