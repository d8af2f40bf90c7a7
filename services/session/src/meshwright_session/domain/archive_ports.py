"""What the archive needs from its stores."""

from collections.abc import Sequence
from typing import Protocol

from meshwright_session.domain.archive_models import (
    ArchiveBegun,
    ArchiveFacts,
    ArchiveName,
    KeptMessages,
    ReadArchive,
    SessionName,
)
from meshwright_session.domain.models import Owner


class ArchiveRegister(Protocol):
    """Which sessions are archived where. Every method is one transaction, but for `messages`."""

    async def begin(self, owner: Owner, session_id: str, archive_id: str) -> ArchiveBegun | None:
        """Note that an object is about to be written; None when the session is archived already.

        Raises: SessionNotFound.
        """
        ...

    def messages(self, begun: ArchiveBegun) -> KeptMessages:
        """Yield the session's messages as they were at the beginning, in order."""
        ...

    async def finish(self, begun: ArchiveBegun, facts: ArchiveFacts) -> bool:
        """Remove the messages and note where they are now.

        False, and nothing is changed, when the session has other messages than at the beginning,
        or is archived or gone.
        """
        ...

    async def bring_back(
        self, owner: Owner, session_id: str, read: ReadArchive, *, wanted: bool
    ) -> ArchiveName | None:
        """Store an archived session's messages again and return the object that is of no use now.

        None when the session is not archived. Whoever comes second waits for the first. Messages of
        months that were dropped do not come back. `wanted`: somebody asked for it, so that it is
        not idle. Raises: SessionNotFound; what `read` raises.
        """
        ...

    async def of_session(self, owner: Owner, session_id: str) -> Sequence[ArchiveName]:
        """Return the session's objects, finished or not."""
        ...

    async def loosen(self, name: ArchiveName) -> bool:
        """Note that an object is of no use, unless a session needs it: False then."""
        ...

    async def forget(self, name: ArchiveName) -> None:
        """Remove what is known of an object that is of no use and gone."""
        ...

    async def idle(self, days: int, limit: int) -> Sequence[SessionName]:
        """Return sessions of all tenants that nobody has touched for `days`, longest first."""
        ...

    async def outgrown(self, months: int, limit: int) -> Sequence[SessionName]:
        """Return archived sessions with messages of months that are not kept any more."""
        ...

    async def loose(self, minutes: int, limit: int) -> Sequence[ArchiveName]:
        """Return objects that no session needs, or that nobody finished within `minutes`."""
        ...


class ArchiveObjects(Protocol):
    """The objects of the archive."""

    async def write(self, name: ArchiveName, messages: KeptMessages) -> ArchiveFacts:
        """Store messages, read them back and compare.

        Raises: ArchiveDamaged when the store gives back something else; Unavailable.
        """
        ...

    def read(self, name: ArchiveName, facts: ArchiveFacts) -> KeptMessages:
        """Yield the messages of an object. Raises: ArchiveDamaged; Unavailable."""
        ...

    async def delete(self, name: ArchiveName) -> None:
        """Remove an object; an absent one is no error. Raises: Unavailable."""
        ...
