"""What tenants change reaches every replica: heard behind the commit, and polled once a second.

A door across tenants answers "what do tenants have that changed in transaction N or later", where N
is the oldest transaction that was running when it was asked last. So a transaction that commits
late is read by the next question, whatever its number; what is read twice is taken twice, which
changes nothing. What is read whole again when the connection that listens is new: then the server
may be another one, or a restored one, whose transactions count anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from meshwright_common.errors import ServiceError
from meshwright_common.storage.listening import listen
from meshwright_common.storage.postgres import Database, Record
from meshwright_common.storage.tenancy import unscoped
from meshwright_common.telemetry.logging import get_logger

POLL_SECONDS: Final = 1.0
"""With the time that reading takes, half of what a change may take to be in force everywhere."""
_ALL: Final = "0"

_logger = get_logger(__name__)


@dataclass(slots=True)
class Feed:
    """One door, and who takes what it says.

    `door` is a function `(since xid8)` that returns rows; `take` gets them, and whether they are
    all there are. `take` must not fail: it judges rows one by one.
    """

    door: str
    take: Callable[[Sequence[Record], bool], None]
    since: str = _ALL


class ChangeFeed:
    """Keeps what `feeds` hold in memory at most 2 s behind the database, while that answers.

    Whoever changes something notifies `channel` (`announce_after_commit`).
    """

    def __init__(self, database: Database, channel: str, feeds: Sequence[Feed]) -> None:
        self._database = database
        self._channel = channel
        self._feeds = feeds
        self._woken = asyncio.Event()
        self._is_new = True
        self._loaded = False

    async def probe(self) -> None:
        """Read everything, if nothing was read yet, as readiness requires.

        Raises: Unavailable, and what the driver says.
        """
        if not self._loaded:
            await self.refresh()

    async def refresh(self) -> None:
        """Read what is new now. Raises: Unavailable, and what the driver says."""
        whole, self._is_new = self._is_new, False
        try:
            for feed in self._feeds:
                await self._read(feed, whole=whole)
        except BaseException:
            self._is_new = self._is_new or whole
            raise
        self._loaded = True

    async def run(self) -> None:
        """Follow the changes, until cancelled. An outage is waited out with what is known."""
        async with asyncio.TaskGroup() as group:
            group.create_task(
                listen(
                    self._database, self._channel, lambda _: self._woken.set(), began=self._begin
                )
            )
            group.create_task(self._poll())

    def _begin(self) -> None:
        self._is_new = True
        self._woken.set()

    async def _poll(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self.refresh()
            except ServiceError as error:
                _logger.warning("changes_not_read", reason=error.reason)
            with suppress(TimeoutError):
                # Not wait_for: until Python 3.12 that loses a cancellation which comes as it ends.
                async with asyncio.timeout(POLL_SECONDS):
                    await self._woken.wait()

    async def _read(self, feed: Feed, *, whole: bool) -> None:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(
                "SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS horizon, found.*"  # noqa: S608 - a constant of ours
                f" FROM (SELECT) AS once LEFT JOIN {feed.door}($1::text::xid8) AS found ON true",
                _ALL if whole else feed.since,
            )
        # The row without a tenant says that nothing changed.
        feed.take([row for row in rows if row["tenant_id"] is not None], whole)
        feed.since = rows[0]["horizon"]
