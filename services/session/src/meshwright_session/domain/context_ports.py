"""What turns and contexts need from stores and caches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from meshwright_session.domain.models import (
    Context,
    ContextChanges,
    JsonObject,
    NewMessage,
    Owner,
    Request,
    StoredMessage,
)
from meshwright_session.domain.windows import Memory, Read, SessionKey, Stamp, Window


@dataclass(frozen=True, slots=True)
class TurnBegun:
    """A turn's question is stored: the window as of now, and the messages that its agent reads."""

    window: Window
    messages: Sequence[StoredMessage]
    read: Read


@dataclass(frozen=True, slots=True)
class TurnStored:
    """A turn is committed. The rest is only there when this call did it, not one before it."""

    message_id: str
    context_version: int
    summary_due: bool
    before: Stamp | None = None
    after: Stamp | None = None
    messages: Sequence[StoredMessage] = ()
    memory: Memory | None = None
    """The context as written; None when the turn changed nothing of its data."""


class TurnStore(Protocol):
    """Where turns are begun and committed. Every method is one transaction, all of it or nothing.

    `known` is a window of the session of any age, or None: what it has is not read again.
    """

    async def begin(
        self,
        owner: Owner,
        session_id: str,
        turn_id: str,
        question: NewMessage,
        *,
        most: int,
        known: Window | None,
    ) -> TurnBegun:
        """Store the question once; return the newest `most` messages up to it.

        Does not wait for the disk: a crash of the database may take the question with it, and
        `commit` stores it then. Raises: SessionNotFound, ContextSchemaUnknown.
        """
        ...

    async def commit(
        self,
        owner: Owner,
        session_id: str,
        turn_id: str,
        messages: Sequence[NewMessage],
        changes: ContextChanges,
        *,
        question: NewMessage | None,
        known: Window | None,
    ) -> TurnStored:
        """Store what a turn produced, durably; a turn committed before stays as it is.

        `question` is stored first when it is not there. Raises: SessionNotFound, ContextTooLarge,
        ContextSchemaUnknown when the turn changes a context of a newer version of this service.
        """
        ...

    async def current(
        self, owner: Owner, session_id: str, known: Window | None
    ) -> tuple[Window, Read]:
        """Return the window as of now. Raises: SessionNotFound, ContextSchemaUnknown."""
        ...


@dataclass(frozen=True, slots=True)
class KeptVersion:
    """A version of a context that can be brought back."""

    version: int
    last_version: int
    """Versions up to this one have the same data: turns move the version without changing it."""
    create_time: datetime
    size_bytes: int


class ContextStore(Protocol):
    """Contexts of one owner's sessions, and their history."""

    async def get(self, owner: Owner, session_id: str) -> Context:
        """Return the context, version 0 before the first write.

        Raises: SessionNotFound, ContextSchemaUnknown.
        """
        ...

    async def compare_and_set(
        self, owner: Owner, session_id: str, expected_version: int, data: JsonObject
    ) -> Context:
        """Write version `expected_version + 1`, and keep what it replaces.

        Raises: SessionNotFound; ContextVersionConflict naming the current version;
        ContextTooLarge; ContextSchemaUnknown.
        """
        ...

    async def restore(
        self, owner: Owner, session_id: str, version: int, request: Request | None
    ) -> Context:
        """Write the data of an old version as the newest one; once per request.

        Raises: SessionNotFound, VersionNotKept, ContextSchemaUnknown, IdempotencyKeyReused.
        """
        ...

    async def at(self, owner: Owner, session_id: str, version: int) -> JsonObject:
        """Return the data of a version, now or once.

        Raises: SessionNotFound, VersionNotKept, ContextSchemaUnknown.
        """
        ...

    async def kept(
        self, owner: Owner, session_id: str, before_version: int | None, limit: int
    ) -> Sequence[KeptVersion]:
        """Return up to `limit` versions kept, newest first. Raises: SessionNotFound."""
        ...


class WindowCache(Protocol):
    """Level 1: windows in this process, bounded in bytes. May forget any at any time."""

    def get(self, key: SessionKey) -> Window | None:
        """Return what is kept, of whatever moment: its stamp has to be compared."""
        ...

    def put(self, key: SessionKey, window: Window) -> None:
        """Offer a window as of a committed transaction; it may be refused."""
        ...

    def drop(self, key: SessionKey) -> None:
        """Forget a session."""
        ...

    def drop_tenant(self, tenant_id: str) -> None:
        """Forget all sessions of a tenant."""
        ...


class Checkpoints(Protocol):
    """Level 2: windows outside this process. Never raises: away is the same as empty."""

    async def find(self, key: SessionKey) -> Window | None:
        """Return what is kept, of whatever moment: its stamp has to be compared."""
        ...

    def save(self, key: SessionKey, window: Window) -> None:
        """Write a window behind the caller's back: as of a commit that waited for the disk."""
        ...

    async def drop(self, key: SessionKey) -> None:
        """Forget a session."""
        ...
