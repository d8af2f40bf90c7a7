"""A pool's connection: what the driver's own cannot remember between two statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import asyncpg

from meshwright_common.storage.announcements import Announcement

if TYPE_CHECKING:
    _Connection = asyncpg.Connection[asyncpg.Record]
else:
    _Connection = asyncpg.Connection

_BEGIN: Final = "BEGIN;"
"""What the driver sends to open a transaction of the default kind."""


class ServiceConnection(_Connection):
    """Remembers what to announce after the commit, and what to send along with the next BEGIN."""

    __slots__ = ("_opening", "announcements")

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # the driver's own, passed through
        super().__init__(*args, **kwargs)
        self.announcements: set[Announcement] = set()
        self._opening = ""

    def open_with(self, statement: str) -> None:
        """Send `statement` in the round trip that opens the next transaction.

        Every transaction of a service sets its tenant first: a third of the round trips of a
        small one, measured at 340 against 225 µs.
        """
        self._opening = statement

    async def execute(
        self,
        query: str,
        *args: Any,
        timeout: float | None = None,  # noqa: ASYNC109 - the driver's signature
    ) -> str:
        if self._opening:
            opening, self._opening = self._opening, ""
            if query != _BEGIN:
                raise asyncpg.InterfaceError("a transaction was to be opened first")
            query += opening
        return await super().execute(query, *args, timeout=timeout)
