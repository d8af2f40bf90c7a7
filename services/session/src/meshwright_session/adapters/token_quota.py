"""The quotas of tokens and costs a day: looked at in the transaction that adds to the ledger."""

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
    """Tells a tenant's administrators what the tokens and the costs of a day come to."""

    def __init__(self, connection: Connection, plans: Plans) -> None:
        self._connection = connection
        self._plans = plans

    async def look(self, rows: Sequence[UsageRow]) -> None:
        """Look at the days of rows of one tenant that were just added to the ledger."""
        tenant_id = rows[0].tenant_id
        tenant = await self._connection.fetchrow(
            _LIMITS, tenant_id, *self._plans.tokens_per_day, *self._plans.cost_micro_usd_per_day
        )
        if tenant is None or not (tenant["tokens"] or tenant["micro_usd"]):
            return
        # Whoever comes second sees what both added: else neither might see the limit reached.
        await self._connection.execute(_TAKE_TURNS, tenant_id)
        for day in sorted({_day_of(row) for row in rows}):
            used = await self._connection.fetchrow(_USED, tenant_id, day)
            for quota, name in _QUOTAS.items():
                if used is None or not tenant[name]:
                    continue
                spent = Spent(quota, used[name], tenant[name], tenant["plan"], day)
                await tell_reached(
                    self._connection, tenant_id, spent, self._plans.alert_percents, source=SOURCE
                )


def _day_of(row: UsageRow) -> date:
    return row.time.astimezone(UTC).date()


_QUOTAS: Final = {"tokens_per_day": "tokens", "cost_micro_usd_per_day": "micro_usd"}
"""Names of quotas, and of their columns here."""

_LIMITS: Final = """
SELECT plan, coalesce(max_tokens_per_day, CASE plan WHEN 'starter' THEN $2::bigint
                                                    WHEN 'professional' THEN $3::bigint
                                                    ELSE $4::bigint END) AS tokens,
       coalesce(max_cost_micro_usd_per_day, CASE plan WHEN 'starter' THEN $5::bigint
                                                      WHEN 'professional' THEN $6::bigint
                                                      ELSE $7::bigint END) AS micro_usd
  FROM tenants WHERE tenant_id = $1
"""

_TAKE_TURNS: Final = """
SELECT pg_advisory_xact_lock(hashtextextended('meshwright.session.tokens/' || $1, 0))
"""

_USED: Final = """
SELECT coalesce(sum(counted_tokens), 0)::bigint AS tokens,
       coalesce(sum(counted_micro_usd), 0)::bigint AS micro_usd
  FROM usage_daily WHERE tenant_id = $1 AND day = $2
"""
