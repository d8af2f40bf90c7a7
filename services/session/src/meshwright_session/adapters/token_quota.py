"""The quota of tokens a day: looked at in the transaction that adds to the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date
from typing import Final

from meshwright_common.quota_alerts import Spent, tell_reached
from meshwright_common.storage.postgres import Connection
from meshwright_session.domain.plans import Plans
from meshwright_session.domain.usage_models import UsageRow

SOURCE: Final = "session"


class TokenAlerts:
    """Tells a tenant's administrators what the tokens of a day come to."""

    def __init__(self, connection: Connection, plans: Plans) -> None:
        self._connection = connection
        self._plans = plans

    async def look(self, rows: Sequence[UsageRow]) -> None:
        """Look at the days of rows of one tenant that were just added to the ledger."""
        tenant_id = rows[0].tenant_id
        tenant = await self._connection.fetchrow(_LIMIT, tenant_id, *self._plans.tokens_per_day)
        if tenant is None or not tenant["most"]:
            return
        # Whoever comes second sees what both added: else neither might see the limit reached.
        await self._connection.execute(_TAKE_TURNS, tenant_id)
        for day in sorted({_day_of(row) for row in rows}):
            used = int(await self._connection.fetchval(_USED, tenant_id, day))
            spent = Spent("tokens_per_day", used, tenant["most"], tenant["plan"], day)
            await tell_reached(
                self._connection, tenant_id, spent, self._plans.alert_percents, source=SOURCE
            )


def _day_of(row: UsageRow) -> date:
    return row.time.astimezone(UTC).date()


_LIMIT: Final = """
SELECT plan, coalesce(max_tokens_per_day, CASE plan WHEN 'starter' THEN $2::bigint
                                                    WHEN 'professional' THEN $3::bigint
                                                    ELSE $4::bigint END) AS most
  FROM tenants WHERE tenant_id = $1
"""

_TAKE_TURNS: Final = """
SELECT pg_advisory_xact_lock(hashtextextended('meshwright.session.tokens/' || $1, 0))
"""

_USED: Final = """
SELECT coalesce(sum(prompt_tokens + completion_tokens), 0)::bigint
  FROM usage_daily WHERE tenant_id = $1 AND day = $2
"""
