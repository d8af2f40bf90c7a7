"""Archived sessions, as the rules and their stores see them."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from meshwright_session.domain.models import Owner


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A message with what its row has. `words` are digests, with blanks between them."""

    message_id: str
    sequence: int
    turn_id: str | None
    role: str
    content: bytes
    words: str
    create_time: datetime


KeptMessages = AsyncGenerator[Sequence[KeptMessage], None]
"""Messages of one session in order, some at a time."""


@dataclass(frozen=True, slots=True)
class ArchiveName:
    """Names an object of the archive. Every session that goes to the archive gets a new one."""

    owner: Owner
    archive_id: str


@dataclass(frozen=True, slots=True)
class ArchiveFacts:
    """What is known of a finished object. `oldest` is None when no message is in it."""

    sha256: bytes
    size_bytes: int
    message_count: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class ArchiveBegun:
    """A session on its way to the archive, as it was when that began."""

    name: ArchiveName
    session_id: str
    message_count: int
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class SessionName:
    """Names a session, and whose it is."""

    owner: Owner
    session_id: str


ReadArchive = Callable[[ArchiveName, ArchiveFacts], KeptMessages]
"""Reads an object; raises ArchiveDamaged, at the latest at the end, when it is not what it was."""
