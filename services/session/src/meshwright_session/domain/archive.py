"""Sessions that nobody touches lie in the archive until somebody does.

An object is noted before it is written, written, read back and compared, and only then do the
messages leave their table, in one transaction with the note of where they are. So a crash at any
step leaves the messages in one place at least, and never an object that nobody knows of.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from meshwright_common.errors import DeadlineExceeded, ServiceError, Unavailable
from meshwright_common.ids import new_id
from meshwright_session.domain.archive_models import ArchiveName, SessionName
from meshwright_session.domain.archive_ports import ArchiveObjects, ArchiveRegister
from meshwright_session.domain.errors import SessionArchived, SessionBusy
from meshwright_session.domain.models import Owner

T = TypeVar("T")

ATTEMPTS: Final = 3
UNFINISHED_MINUTES: Final = 60
"""An object that is not finished after this belongs to a process that died."""


class Archive:
    """The use cases."""

    def __init__(self, register: ArchiveRegister, objects: ArchiveObjects) -> None:
        self._register = register
        self._objects = objects

    async def put_away(self, owner: Owner, session_id: str) -> None:
        """Move a session's messages to the archive; a no-op when they are there.

        Raises: SessionNotFound; SessionBusy when it was written to each time; ArchiveDamaged;
        Unavailable.
        """
        for _ in range(ATTEMPTS):
            begun = await self._register.begin(owner, session_id, new_id())
            if begun is None:
                return
            try:
                facts = await self._objects.write(begun.name, self._register.messages(begun))
                if await self._register.finish(begun, facts):
                    return
            except ServiceError:
                await self._discard_quietly(begun.name)
                raise
            await self._discard(begun.name)
        raise SessionBusy

    async def bring_back(self, owner: Owner, session_id: str, *, wanted: bool = True) -> None:
        """Move a session's messages out of the archive; a no-op when they are not there.

        Raises: SessionNotFound, ArchiveDamaged, Unavailable.
        """
        useless = await self._register.bring_back(
            owner, session_id, self._objects.read, wanted=wanted
        )
        if useless is not None:
            await self._discard_quietly(useless)

    async def awake(self, owner: Owner, session_id: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do `work`; when the session lies in the archive, bring it back and do it again.

        Raises: what `work` raises; as `bring_back`.
        """
        for _ in range(ATTEMPTS):
            try:
                return await work()
            except SessionArchived:
                await self.bring_back(owner, session_id)
        raise SessionBusy

    async def remove(
        self, owner: Owner, session_id: str, removal: Callable[[], Awaitable[None]]
    ) -> None:
        """Do `removal`, which removes the session, and remove what the archive has of it.

        What cannot be removed now is removed by `sweep`.
        """
        names = await self._register.of_session(owner, session_id)
        await removal()
        for name in names:
            await self._discard_quietly(name)

    async def idle(self, days: int, *, most: int) -> Sequence[SessionName]:
        """Return up to `most` sessions, of all tenants, that nobody has touched for `days`."""
        return await self._register.idle(days, most)

    async def outgrown(self, months: int, *, most: int) -> Sequence[SessionName]:
        """Return up to `most` archived sessions with messages of months that are not kept.

        Brought back (not `wanted`) they are without these messages; being idle, they go again.
        """
        return await self._register.outgrown(months, most)

    async def sweep(self, *, most: int) -> int:
        """Remove up to `most` objects no session needs; return how many. Raises: Unavailable."""
        names = await self._register.loose(UNFINISHED_MINUTES, most)
        return sum([await self._discard(name) for name in names])

    async def _discard(self, name: ArchiveName) -> bool:
        # First the note that nobody may finish it, then the object, then all that is known of it.
        if not await self._register.loosen(name):
            return False
        await self._objects.delete(name)
        await self._register.forget(name)
        return True

    async def _discard_quietly(self, name: ArchiveName) -> None:
        """Discard, or leave it to `sweep`."""
        try:
            await self._discard(name)
        except (Unavailable, DeadlineExceeded):
            return
