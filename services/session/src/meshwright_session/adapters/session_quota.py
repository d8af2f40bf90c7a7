"""The quota of sessions: counted in the transaction that makes one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import asyncpg

from meshwright_common.errors import QuotaExceeded
from meshwright_common.quota_alerts import Spent, crossed, tell_reached
from meshwright_common.quotas import quota_exceeded
from meshwright_common.storage.postgres import Connection, Record
from meshwright_session.domain.plans import Plans

REFUSED: Final = "MQ001"
"""What `admit_session` raises."""
SOURCE: Final = "session"


async def tell_admitted(
    connection: Connection, tenant_id: str, admitted: Record, plans: Plans
) -> None:
    """Tell administrators, in the transaction, if the session just made is the one that matters.

    `admitted` holds `used`, `most` and `plan` as `admit_session` returned them.
    """
    used, most = admitted["used"], admitted["most"]
    if not crossed(used - 1, used, most, plans.alert_percents):
        return
    spent = Spent("sessions", used, most, admitted["plan"], datetime.now(UTC).date())
    await tell_reached(connection, tenant_id, spent, plans.alert_percents, source=SOURCE)


def full(tenant_id: str, admitted: Record) -> QuotaExceeded:
    """Return the error of what `try_admit_session` did not admit."""
    return quota_exceeded(
        "sessions",
        used=admitted["used"],
        limit=admitted["most"],
        plan=admitted["plan"],
        tenant_id=tenant_id,
    )


def refusal(error: asyncpg.PostgresError, tenant_id: str) -> QuotaExceeded | None:
    """Return what `admit_session` meant when it raised `error`; None when it was another one."""
    if error.sqlstate != REFUSED:
        return None
    used, limit, plan = str(error.detail).split(" ")
    return quota_exceeded(
        "sessions", used=int(used), limit=int(limit), plan=plan, tenant_id=tenant_id
    )
