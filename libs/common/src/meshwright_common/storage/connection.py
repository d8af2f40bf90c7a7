"""A pool's connection: what the driver's own cannot remember between two statements, and its
way back to the pool.

Trap: the driver asks the server to describe each array type a statement uses, once per connection,
by a query of some 15 ms. The system's own types are the same everywhere: they are asked for once.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from meshwright_common.storage.announcements import Announcement

if TYPE_CHECKING:
    _Connection = asyncpg.Connection[asyncpg.Record]
else:
    _Connection = asyncpg.Connection

_BEGIN: Final = "BEGIN;"
"""What the driver sends to open a transaction of the default kind."""

_FIRST_OWN_OID: Final = 16384
"""Types with lower numbers come with PostgreSQL; their numbers are the same on every server."""

_system_types: dict[frozenset[int], object] = {}
"""What the driver found out about sets of system types: as many as our statements have."""

_NOT_ASKED: Final = SimpleNamespace(name="none")


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

    async def _introspect_types(
        self,
        typeoids: Iterable[int],
        timeout: float | None,  # noqa: ASYNC109 - the driver's signature
    ) -> tuple[object, object]:
        wanted = frozenset(typeoids)
        known = _system_types.get(wanted)
        if known is not None:
            # Nothing was asked on this connection: no statement of it has to be made again.
            return known, _NOT_ASKED
        # The driver's types leave it out.
        described, statement = await super()._introspect_types(wanted, timeout)  # type: ignore[misc]
        if max(wanted, default=0) < _FIRST_OWN_OID:
            _system_types[wanted] = described
        return described, statement


async def give_back(
    connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record], timeout_seconds: float
) -> None:
    """Give a connection back to its pool, as `Pool.release` does, in the caller's own task.

    The driver makes a task for it and shields it, which is two more turns of the event loop for
    each use: 148 against 108 µs of a smallest statement. There is nothing to shield: a connection
    that is fine goes back without waiting for anything, and one that is broken off meanwhile
    (caller cancelled twice, while the server is told of the first time) is closed by the driver.
    Raises: OSError, PostgresError, InterfaceError when it broke; the pool has taken it away then.
    """
    # The driver's types know neither.
    behind: _Connection | None = connection._con  # type: ignore[attr-defined]
    if behind is None:
        # The pool has already taken the broken connection away.
        return
    behind._on_release()  # type: ignore[attr-defined]
    await connection._holder.release(timeout_seconds)
