"""What operators ask of an event log: what is in it, who is behind, what stands where.

Only reading; nobody's position moves. It is done as the owner of the tables (the role that
migrates), which sees all tenants: no service can do this.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, Protocol, TypeAlias

from meshwright_common.errors import FailedPrecondition
from meshwright_common.events.ports import Delivery
from meshwright_common.events.topics import retentions
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.bootstrap import OWNER, OWNER_SERVICE
from meshwright_common.storage.postgres import (
    JOB_STATEMENT_TIMEOUT_SECONDS,
    Database,
    open_database,
)
from meshwright_common.storage.tenancy import unscoped

PAGE: Final = 500
"""Events that are read from the log at once."""
FOLLOW_EVERY_SECONDS: Final = 0.3
"""How often a tail that has reached the end looks for more."""

TOPIC_NAMES: Final = tuple(retentions())
"""The topics, and those of their dead letters."""

Start: TypeAlias = Literal["beginning", "end"] | datetime
"""Where to begin: at the oldest event that is kept, behind the newest, or at a moment."""


class NotTheOwner(FailedPrecondition):
    """The login may not see all tenants: operators log in as the owner of the tables."""


@dataclass(frozen=True, slots=True)
class Logged:
    """An event where it stands in the log. `logged_at` is when the log took it."""

    topic: str
    delivery: Delivery
    logged_at: datetime

    @property
    def happened_at(self) -> datetime:
        """When it happened, as its headers say; when the log took it, if they say nothing."""
        try:
            told = datetime.fromisoformat(self.delivery.headers["ce_time"])
        except (KeyError, ValueError):
            return self.logged_at
        return told if told.tzinfo else told.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is: `events` are those kept; their ages are None when there are none."""

    topic: str
    partitions: int
    events: int
    oldest_at: datetime | None
    newest_at: datetime | None
    consumers: Sequence[str]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a consumer is: `behind` events it has not read, the first of them `oldest_at`."""

    consumer: str
    topic: str
    behind: int
    oldest_at: datetime | None


class LogInspection(Protocol):
    """An event log, looked at from outside. All of it raises Unavailable when the log is away."""

    async def topics(self) -> list[TopicState]:
        """Return the state of every topic, in the order of `TOPIC_NAMES`."""
        ...

    async def positions(self) -> list[Position]:
        """Return every consumer's position in every topic that it reads."""
        ...

    def read(self, topic: str, start: Start, *, follow: bool) -> AsyncGenerator[Logged, None]:
        """Yield the events from `start` on, in the order of the log, for each key at least.

        Ends at what was the end when it began, or with `follow` never.
        """
        ...

    def between(
        self, topic: str, since: datetime, until: datetime
    ) -> AsyncGenerator[Sequence[Logged], None]:
        """Yield the events that happened from `since` up to, not at, `until`, in pages."""
        ...


@contextlib.asynccontextmanager
async def open_operator_database(settings: DatabaseSettings) -> AsyncIterator[Database]:
    """Open the database as its owner. Raises: NotTheOwner; StorageUnavailable."""
    async with open_database(
        settings,
        OWNER_SERVICE,
        max_size=2,
        statement_timeout_seconds=JOB_STATEMENT_TIMEOUT_SECONDS,
    ) as database:
        async with unscoped(database) as connection:
            owner = await connection.fetchval(
                "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)"
                " AND pg_has_role(current_user, (SELECT oid FROM pg_roles WHERE rolname = $1),"
                " 'USAGE')",
                OWNER,
            )
        if not owner:
            raise NotTheOwner(
                f"Operators log in as {OWNER}, which sees all tenants: write the user in the URL "
                "as meshwright_{service}, and we put the right name in."
            )
        yield database


def age_of(moment: datetime | None) -> timedelta | None:
    """Return how long ago a moment was, None for none."""
    # house: wall-clock: compared with moments that other machines wrote down
    return None if moment is None else max(datetime.now(UTC) - moment, timedelta())
