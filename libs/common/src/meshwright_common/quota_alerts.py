"""Telling a tenant's administrators that a quota is nearly used up: each share once a day.

Needs a table `quota_alerts (tenant_id, quota, day, percent)` in the schema of the service that
counts. The note that it was told and the notification commit with what used the quota.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from meshwright_common.events.notification import Notice, tell
from meshwright_common.storage.postgres import Connection

KIND: Final = "quota.threshold"
KEPT_DAYS: Final = 7
"""What was told on earlier days is forgotten with the next alert."""

_NOTE: Final = """
WITH forgotten AS (
    DELETE FROM quota_alerts WHERE tenant_id = $1 AND quota = $2 AND day < $3::date - $5::integer
)
INSERT INTO quota_alerts (tenant_id, quota, day, percent)
SELECT $1, $2, $3::date, percent FROM unnest($4::integer[]) AS percent
ON CONFLICT DO NOTHING
RETURNING percent
"""


def reached(used: int, limit: int, percents: Sequence[int]) -> list[int]:
    """Return those of `percents` of `limit` that `used` has reached; none without a limit."""
    return [percent for percent in percents if limit > 0 and used * 100 >= percent * limit]


def crossed(before: int, used: int, limit: int, percents: Sequence[int]) -> bool:
    """Return whether one of `percents` of `limit` lies between, `used` included."""
    return len(reached(before, limit, percents)) < len(reached(used, limit, percents))


@dataclass(frozen=True, slots=True)
class Spent:
    """What is used of a quota on a UTC day. A limit of 0 is none."""

    quota: str
    used: int
    limit: int
    plan: str
    day: date


async def tell_reached(
    connection: Connection, tenant_id: str, spent: Spent, percents: Sequence[int], *, source: str
) -> list[int]:
    """Tell the administrators in the open transaction which shares are used that they do not know.

    Returns the shares that were told: each is told once a day, whoever calls this how often.
    """
    known = reached(spent.used, spent.limit, percents)
    if not known:
        return []
    rows = await connection.fetch(_NOTE, tenant_id, spent.quota, spent.day, known, KEPT_DAYS)
    told = sorted(row["percent"] for row in rows)
    for percent in told:
        await tell(connection, _notice(spent, percent), source=source, tenant_id=tenant_id)
    return told


def _notice(spent: Spent, percent: int) -> Notice:
    return Notice(
        user_id="",
        kind=KIND,
        title=f"{percent} % of the quota of {spent.quota} is used: {spent.used} of {spent.limit}.",
        resource=f"quota/{spent.quota}",
        details={
            "quota": spent.quota,
            "percent": percent,
            "used": spent.used,
            "limit": spent.limit,
            "plan": spent.plan,
            "day": spent.day.isoformat(),
        },
    )
