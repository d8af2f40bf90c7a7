"""What PostgreSQL knows of budgets: it is the truth, and Redis is counted from it.

`budget_days` tells a day that Redis never counted from one that it has lost: only then may calls
be running that Redis knows nothing of. `budget_shares` is what replicas may give out without Redis.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from typing import Final

from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_model_router.domain.budgets import NOTHING, Counted

TENANT: Final = "tenant"
"""Scope of a tenant's own budgets."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A part of a budget that a replica asks for. Limits of 0 are none.

    `running` is what its calls hold and the ledger does not have; `need` what a call asks for;
    `seen` what Redis counted last, used and reserved: the others may not have told theirs yet.
    `user_id` "": the budget of the whole tenant.
    """

    scope: str
    user_id: str
    tokens_limit: int
    micro_usd_limit: int
    running: Counted
    need: Counted
    seen: Counted


class BudgetTruth:
    """Sums of the ledger, and the days and shares of budgets. `replica` is this process."""

    def __init__(self, database: Database, replica: str) -> None:
        self._database = database
        self._replica = replica

    @asynccontextmanager
    async def beginning(self, tenant_id: str, day: date) -> AsyncIterator[bool]:
        """Hold others off while a day is begun in Redis. Gives True when it was begun before.

        Raises: Unavailable, DeadlineExceeded.
        """
        async with unit_of_work(self._database, tenant_id) as connection:
            await connection.execute(_FORGET_DAYS, tenant_id, day)
            began = await connection.fetchval(_BEGIN_DAY, tenant_id, day)
            yield began is None

    async def used(
        self, tenant_id: str, day: date, before_milliseconds: int, unsettled: Sequence[str]
    ) -> Mapping[str, Counted]:
        """Return what the ledger counts for reservations of before, by user; "" is nobody.

        Those in `unsettled` are left out. Raises: Unavailable, DeadlineExceeded.
        """
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(
                _USED, tenant_id, day, before_milliseconds, list(unsettled)
            )
        return {row["user_id"]: Counted(row["tokens"], row["micro_usd"]) for row in rows}

    async def claim(
        self, tenant_id: str, day: date, claim: Claim, parts: int, patience_seconds: float
    ) -> Counted | None:
        """Take one of `parts` of what is left, or `need` if that is more and is left.

        None while a replica that lives has not told that Redis is away for it, and before what its
        calls hold: it may still grant there. What this replica took before and did not give out
        falls back. Raises: Unavailable.
        """
        async with self._turn(tenant_id) as connection:
            if await connection.fetchval(_SOME_THERE, patience_seconds):
                return None
            row = await connection.fetchrow(
                *(_LEFT, tenant_id, day, claim.scope, self._replica),
                *(claim.user_id or None,),
            )
            used = NOTHING if row is None else Counted(row["tokens"], row["micro_usd"])
            gone = Counted(
                max(used.tokens + claim.running.tokens, claim.seen.tokens),
                max(used.micro_usd + claim.running.micro_usd, claim.seen.micro_usd),
            )
            taken = Counted(
                _part(claim.tokens_limit, gone.tokens, claim.need.tokens, parts),
                _part(claim.micro_usd_limit, gone.micro_usd, claim.need.micro_usd, parts),
            )
            await self._declare(connection, tenant_id, day, claim.scope, claim.running, taken)
        return taken

    async def declare(
        self, tenant_id: str, day: date, scope: str, running: Counted, unspent: Counted
    ) -> None:
        """Tell the others what calls of this replica hold, and what it may still give out.

        Raises: Unavailable.
        """
        async with self._turn(tenant_id) as connection:
            await self._declare(connection, tenant_id, day, scope, running, unspent)

    async def withdraw(self, tenant_id: str) -> None:
        """Give back all shares of this replica. Raises: Unavailable."""
        async with unit_of_work(self._database, tenant_id) as connection:
            await connection.execute(_WITHDRAW, tenant_id, self._replica)

    async def has_shares(self, tenant_id: str, day: date, lease_seconds: float) -> bool:
        """Return whether a replica that lives may give out something without Redis.

        Raises: Unavailable.
        """
        # In turn: a share that is being taken is seen, and who comes next sees who uses Redis.
        async with self._turn(tenant_id) as connection:
            return bool(await connection.fetchval(_HAS_SHARES, tenant_id, day, lease_seconds))

    @asynccontextmanager
    async def _turn(self, tenant_id: str) -> AsyncIterator[Connection]:
        """Give a transaction of the tenant's budgets: one at a time."""
        async with unit_of_work(self._database, tenant_id) as connection:
            await connection.execute(_TAKE_TURNS, tenant_id)
            yield connection

    async def _declare(
        self,
        connection: Connection,
        tenant_id: str,
        day: date,
        scope: str,
        running: Counted,
        unspent: Counted,
    ) -> None:
        await connection.execute(
            *(_DECLARE, tenant_id, day, scope, self._replica),
            running.tokens + unspent.tokens,
            running.micro_usd + unspent.micro_usd,
        )


def _part(limit: int, gone: int, need: int, parts: int) -> int:
    """Return what may be taken of a limit; 0 without one, for nothing is counted then."""
    free = max(0, limit - gone)
    return min(free, max(need, free // parts)) if limit else 0


_FORGET_DAYS: Final = """
WITH days AS (
    DELETE FROM model_router.budget_days WHERE tenant_id = $1 AND day < $2::date - 3
)
DELETE FROM model_router.budget_shares WHERE tenant_id = $1 AND day < $2::date - 3
"""
_BEGIN_DAY: Final = """
INSERT INTO model_router.budget_days (tenant_id, day) VALUES ($1, $2)
ON CONFLICT DO NOTHING RETURNING day
"""
_USED: Final = """
SELECT user_id, sum(counted_tokens)::bigint AS tokens, sum(counted_micro_usd)::bigint AS micro_usd
  FROM model_router.model_usage
 WHERE tenant_id = $1 AND budget_day = $2 AND reserved_at_milliseconds < $3
   AND reservation_id <> ALL ($4::uuid[])
 GROUP BY user_id
"""
_LEFT: Final = """
SELECT coalesce((SELECT sum(counted_tokens) FROM model_router.model_usage
                  WHERE tenant_id = $1 AND budget_day = $2
                    AND ($5::text IS NULL OR user_id = $5)), 0)::bigint
       + coalesce(sum(tokens), 0)::bigint AS tokens,
       coalesce((SELECT sum(counted_micro_usd) FROM model_router.model_usage
                  WHERE tenant_id = $1 AND budget_day = $2
                    AND ($5::text IS NULL OR user_id = $5)), 0)::bigint
       + coalesce(sum(micro_usd), 0)::bigint AS micro_usd
  FROM model_router.budget_shares
 WHERE tenant_id = $1 AND day = $2 AND scope = $3 AND replica <> $4
"""
_DECLARE: Final = """
INSERT INTO model_router.budget_shares (tenant_id, day, scope, replica, tokens, micro_usd)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id, day, scope, replica)
DO UPDATE SET tokens = excluded.tokens, micro_usd = excluded.micro_usd,
              told_at = clock_timestamp()
"""
_WITHDRAW: Final = "DELETE FROM model_router.budget_shares WHERE tenant_id = $1 AND replica = $2"
_HAS_SHARES: Final = """
SELECT EXISTS (SELECT FROM model_router.budget_shares
                WHERE tenant_id = $1 AND day = $2
                  AND told_at > clock_timestamp() - make_interval(secs => $3))
"""
_SOME_THERE: Final = """
SELECT EXISTS (SELECT FROM model_router.budget_replicas
                WHERE NOT is_away AND told_at > clock_timestamp() - make_interval(secs => $1))
"""
_TAKE_TURNS: Final = """
SELECT pg_advisory_xact_lock(hashtextextended('meshwright.model_router.budget/' || $1, 0))
"""
