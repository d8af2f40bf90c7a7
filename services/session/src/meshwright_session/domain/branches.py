"""Sessions that go on from a point of another one."""

from dataclasses import dataclass
from typing import Final, Protocol

from meshwright_common.ids import new_id
from meshwright_session.domain.archive import Archive
from meshwright_session.domain.models import Owner, Request, Session

MAX_BRANCH_MESSAGES: Final = 5000
MAX_BRANCH_BYTES: Final = 64 * 1024 * 1024
"""Of all messages taken over: a branch is made in one transaction while its caller waits."""


@dataclass(frozen=True, slots=True)
class BranchPoint:
    """Where a branch begins: behind a message of a session. 0: before its first message."""

    session_id: str
    sequence: int
    title: str
    """Of the new session. Empty: that of the old one."""


class BranchStore(Protocol):
    """Copies sessions of one owner."""

    async def branch(
        self, owner: Owner, point: BranchPoint, session_id: str, request: Request | None
    ) -> Session:
        """Store a session with the same settings, messages up to the point, and the context.

        Or return the one that the same request made before. All of it or nothing. Raises:
        SessionNotFound; SessionArchived; InvalidArgument for a point that the session does not have
        or that is too far from its beginning; IdempotencyKeyReused; QuotaExceeded.
        """
        ...


class Branches:
    """The use case."""

    def __init__(self, store: BranchStore, archive: Archive) -> None:
        self._store = store
        self._archive = archive

    async def make(self, owner: Owner, point: BranchPoint, request: Request | None) -> Session:
        """Make a branch, or return the one that a known request made. Raises: as the store."""
        session_id = new_id()
        return await self._archive.awake(
            owner, point.session_id, lambda: self._store.branch(owner, point, session_id, request)
        )
