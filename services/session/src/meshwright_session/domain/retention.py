"""What is older than it may be: whole months of tables, and what hangs on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol

from meshwright_session.domain.models import Owner

MonthlyTable = Literal["messages", "usage_ledger"]

BUSY: Final = "busy"
"""What `drop_month` answers when the table could not be had for a moment."""


@dataclass(frozen=True, slots=True)
class ExpiredSession:
    """A session that nobody has touched since before the oldest month kept."""

    owner: Owner
    session_id: str
    update_time: datetime


class RetentionStore(Protocol):
    """Tables of all tenants. `months`: so many whole months before this one are kept."""

    async def drop_month(self, table: MonthlyTable, months: int) -> str | None:
        """Drop the oldest month that is not kept; return its name, None when there is none.

        Writers never wait for it longer than a moment: BUSY, and nothing is dropped, when it would
        have to wait for them.
        """
        ...

    async def prune_turn_commits(self, months: int, limit: int) -> int:
        """Forget up to `limit` turns committed before the oldest month kept; return how many."""
        ...

    async def prune_usage_calls(self, months: int, limit: int) -> int:
        """Forget up to `limit` model calls before the oldest month kept; return how many."""
        ...

    async def expired_sessions(self, months: int, limit: int) -> Sequence[ExpiredSession]:
        """Return up to `limit` sessions not touched since before the oldest month kept."""
        ...
