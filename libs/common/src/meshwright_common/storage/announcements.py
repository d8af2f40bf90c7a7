"""NOTIFY behind the commit, not in it.

A transaction that notifies commits under a lock that is shared with every other one that does, so
that concurrent commits no longer share a flush of the log: measured here, half the throughput at 16
writers, and worse on a slow disk. Announcements are hints (whoever listens also polls), so they are
sent after the commit, by one connection at a time, merged.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg

if TYPE_CHECKING:
    _Pool = asyncpg.Pool[asyncpg.Record]

MERGE_SECONDS: Final = 0.005
"""Pause after each round: what is announced meanwhile goes as one."""

# A hint need not survive a crash: its commit does not wait for the disk.
_NOTIFY: Final = """
SELECT pg_notify(sent.channel, sent.payload)
  FROM (SELECT set_config('synchronous_commit', 'off', true)) AS unflushed,
       unnest($1::text[], $2::text[]) AS sent (channel, payload)
"""


class Announcement(NamedTuple):
    """A NOTIFY: everybody who listens to `channel` hears `payload`."""

    channel: str
    payload: str


def announce_after_commit(connection: object, announcement: Announcement) -> None:
    """Announce when the transaction of a pool's connection has committed, and not before.

    Does nothing for other connections: listeners find out by polling.
    """
    pending = getattr(connection, "announcements", None)
    if isinstance(pending, set):
        pending.add(announcement)


def take(connection: object) -> set[Announcement]:
    """Return what the connection has to announce, and forget it there."""
    pending = getattr(connection, "announcements", None)
    if not isinstance(pending, set) or not pending:
        return set()
    taken = set(pending)
    pending.clear()
    return taken


class Announcer:
    """Sends announcements of committed transactions, in a task of its own."""

    def __init__(self) -> None:
        self._pending: set[Announcement] = set()
        self._woken = asyncio.Event()

    def send(self, announcements: set[Announcement]) -> None:
        """Send soon. Returns at once."""
        if announcements:
            self._pending |= announcements
            self._woken.set()

    async def run(self, pool: _Pool, *, acquire_timeout_seconds: float) -> None:
        """Send what is given to `send`, until cancelled. What cannot be sent is dropped."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            sending, self._pending = self._pending, set()
            with contextlib.suppress(
                OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError
            ):
                async with pool.acquire(timeout=acquire_timeout_seconds) as connection:
                    await connection.execute(
                        _NOTIFY,
                        [one.channel for one in sending],
                        [one.payload for one in sending],
                    )
            await asyncio.sleep(MERGE_SECONDS)
