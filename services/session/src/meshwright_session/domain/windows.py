"""What a turn reads of its session: the newest messages and the context, as of one moment.

A window says itself of which moment it is, by its stamp. The stamp of a session is read from its
row, in the statement that locks it, so a window that was kept somewhere is current exactly when
both are equal: that is the one rule by which caches of this service are trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from meshwright_session.domain.models import Context, Owner, StoredMessage

WINDOW_MESSAGES: Final = 200
"""Messages that a window has at most: the largest page, and the most a turn may ask for."""

_MESSAGE_OVERHEAD_BYTES: Final = 600
"""What a message costs in memory beside its content: the object, its ids and its time."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes whenever a session's messages or context do.

    Counts alone would not do: a question is acknowledged before it is on the disk, so after a
    crash of the database another message may have its sequence. Its time is another one.
    """

    message_count: int
    context_version: int
    update_time: datetime


@dataclass(frozen=True, slots=True)
class SessionKey:
    """Which session, in caches: never the session alone."""

    tenant_id: str
    session_id: str

    @classmethod
    def of(cls, owner: Owner, session_id: str) -> SessionKey:
        """Return the key of an owner's session."""
        return cls(owner.tenant_id, session_id)


class Level(StrEnum):
    """Where a window was found."""

    L1 = "l1"
    L2 = "l2"
    COLD = "cold"


class Read(StrEnum):
    """What had to be read of PostgreSQL's messages and contexts to make it current."""

    NOTHING = "nothing"
    NEWER = "newer"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Memory:
    """A context, the version that wrote its data (0: none), and the data's size as stored."""

    context: Context
    data_version: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Window:
    """Messages are oldest first, without gaps; the last one has sequence `message_count`.

    `data_version` is the version that wrote the context's data, 0 for none: turns move the version
    on without writing. `context_bytes` is the size of the data as stored. `reaches_back` says that
    there are no older messages.
    """

    stamp: Stamp
    messages: tuple[StoredMessage, ...]
    context: Context
    data_version: int = 0
    context_bytes: int = 0
    reaches_back: bool = False

    @property
    def size_bytes(self) -> int:
        """Return about how much memory it takes."""
        # A parsed object is some times its JSON, and the JSON some times what is stored of it.
        held = sum(len(message.content) for message in self.messages) + 8 * self.context_bytes
        return held + _MESSAGE_OVERHEAD_BYTES * (len(self.messages) + 1)

    def moved_on(self, stamp: Stamp, messages: Sequence[StoredMessage]) -> Window:
        """Return the window after `messages` were stored behind it."""
        together = (*self.messages, *messages)
        return replace(
            self,
            stamp=stamp,
            messages=together[-WINDOW_MESSAGES:],
            reaches_back=self.reaches_back and len(together) <= WINDOW_MESSAGES,
        )

    def with_context(self, memory: Memory) -> Window:
        """Return the window with another context."""
        return replace(
            self,
            context=memory.context,
            data_version=memory.data_version,
            context_bytes=memory.size_bytes,
        )

    @property
    def memory(self) -> Memory:
        """Return its context with what is known of it."""
        return Memory(self.context, self.data_version, self.context_bytes)

    def up_to(self, sequence: int, count: int) -> tuple[StoredMessage, ...] | None:
        """Return up to `count` messages that end with `sequence`; None when older ones are needed
        than it has."""
        end = len(self.messages) - (self.stamp.message_count - sequence)
        start = end - min(count, sequence)
        if self.reaches_back:
            start = max(start, 0)
        return self.messages[start:end] if 0 <= start <= end else None
