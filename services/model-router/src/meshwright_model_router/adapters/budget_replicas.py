"""Which processes count budgets, and whether Redis is away for them.

A lease, as Gray and Cheriton's (1989): a replica grants only until its own registration ends by its
own monotonic clock, which it began to count before the database did; the others take it for dead
a quarter of a lease later. So a replica that is late has stopped before anybody goes on without it.
"""

from __future__ import annotations

import asyncio
from typing import Final

from meshwright_common.clock import Clock
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unscoped

PATIENCE: Final = 1.25
"""Leases until the others take a replica for dead: clocks do not go equally fast."""


class Replicas:
    """The registration of this process, `replica`, and those of the others."""

    def __init__(
        self, database: Database, replica: str, clock: Clock, lease_seconds: float
    ) -> None:
        self._database = database
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._until: float | None = None
        self._turn = asyncio.Lock()
        self.replica = replica
        self.is_away = False
        """Whether Redis is away for this replica, as the others know it."""

    @property
    def is_valid(self) -> bool:
        """Whether this process may grant."""
        return self._until is not None and self._clock.monotonic() < self._until

    async def tell(self, *, is_away: bool | None = None) -> bool:
        """Register anew, with what was told before or with `is_away`.

        Returns whether Redis is away for another replica that lives. Raises: Unavailable.
        """
        async with self._turn:
            until = self._clock.monotonic() + self._lease_seconds
            away = self.is_away if is_away is None else is_away
            # Not valid while it is unknown what the others read.
            if away != self.is_away:
                self._until = None
            async with unscoped(self._database) as connection:
                await connection.execute(_TELL, self.replica, away)
            self.is_away, self._until = away, until
        async with unscoped(self._database) as connection:
            return bool(await connection.fetchval(_SOME_AWAY, self.replica, self._patience))

    async def ensure(self) -> bool:
        """Register if the registration has ended; return whether it had. Raises: Unavailable."""
        if self.is_valid:
            return False
        await self.tell()
        return True

    async def living(self) -> frozenset[str]:
        """Return all replicas that may hold something. Raises: Unavailable."""
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(_LIVING, self._patience)
        return frozenset(str(row["replica"]) for row in rows)

    async def leave(self) -> None:
        """Nothing is held here any longer, and nothing will be. Raises: Unavailable."""
        async with self._turn:
            self._until = None
            async with unscoped(self._database) as connection:
                await connection.execute(_LEAVE, self.replica)

    @property
    def _patience(self) -> float:
        return self._lease_seconds * PATIENCE


_TELL: Final = """
WITH gone AS (
    DELETE FROM model_router.budget_replicas
     WHERE told_at < clock_timestamp() - interval '1 day' AND replica <> $1
)
INSERT INTO model_router.budget_replicas (replica, is_away) VALUES ($1, $2)
ON CONFLICT (replica) DO UPDATE SET is_away = excluded.is_away, told_at = clock_timestamp()
"""
_SOME_AWAY: Final = """
SELECT EXISTS (SELECT FROM model_router.budget_replicas
                WHERE is_away AND replica <> $1
                  AND told_at > clock_timestamp() - make_interval(secs => $2))
"""
_LIVING: Final = """
SELECT replica FROM model_router.budget_replicas
 WHERE told_at > clock_timestamp() - make_interval(secs => $1)
"""
_LEAVE: Final = "DELETE FROM model_router.budget_replicas WHERE replica = $1"
