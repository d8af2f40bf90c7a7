"""Budgets while Redis is away: a replica gives out parts that it takes from the ledger's rest.

A part is 1/N of what is left, so that N replicas share it and none can use it alone; what is left
is the limit without what the ledger has and without all parts and running calls of the others, by
one transaction after the other. Together they never give out more than the limit. None takes a
part while another one uses Redis, and a part ends by the replica's own clock before others do
without it: `adapters.budget_replicas`.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import UTC, date
from typing import Final

from meshwright_common.clock import Clock
from meshwright_model_router.adapters.budget_replicas import PATIENCE
from meshwright_model_router.adapters.budget_truth import TENANT, BudgetTruth, Claim
from meshwright_model_router.adapters.held import Holdings
from meshwright_model_router.domain.budget_rules import Ask
from meshwright_model_router.domain.budgets import NOTHING, Counted

MOST_SEEN: Final = 20_000
"""Budgets of which is remembered what Redis counted last."""


@dataclass(slots=True)
class _Share:
    """What may still be given out of one budget. `until`: by this process' monotonic clock."""

    tokens: int = 0
    micro_usd: int = 0
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class Who:
    """Whose budgets: of a tenant, and of a user of it ("": none)."""

    tenant_id: str
    user_id: str
    fingerprint: str


class LocalShares:
    """Parts of budgets that this replica has taken. `parts`: how many replicas share."""

    def __init__(
        self,
        truth: BudgetTruth,
        holdings: Holdings,
        clock: Clock,
        parts: int,
        lease_seconds: float,
    ) -> None:
        self._truth = truth
        self._holdings = holdings
        self._clock = clock
        self._parts = parts
        self._lease_seconds = lease_seconds
        self.is_open = False
        """Whether parts may be given out: not while Redis is there, nor on the way back to it."""
        self._shares: dict[tuple[str, date, str], _Share] = {}
        self._seen: dict[tuple[str, str], tuple[date, Counted]] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    def today(self) -> date:
        """Return the UTC day by this machine's clock: there is no better one now."""
        return self._clock.now().astimezone(UTC).date()

    @property
    def tenants(self) -> set[str]:
        """Tenants that parts were taken of, or whose running calls were told."""
        return {tenant_id for tenant_id, _, _ in self._shares}

    def note_seen(self, who: Who, day: date, tokens: int, micro_usd: int, of_user: int) -> None:
        """Note what Redis counts, used and reserved, for when it is away."""
        if len(self._seen) > MOST_SEEN:
            self._seen.clear()
        self._seen[who.tenant_id, TENANT] = (day, Counted(tokens, micro_usd))
        if who.fingerprint:
            self._seen[who.tenant_id, who.fingerprint] = (day, Counted(of_user, 0))

    async def take(self, who: Who, ask: Ask) -> int | str | None:
        """Return the output that may be made, or the scope of the budget that has no more.

        None when nothing may be given out yet or any longer: a replica that lives uses Redis.
        Raises: Unavailable when the ledger is away too.
        """
        day, limits = self.today(), ask.limits
        async with self._turns.setdefault(who.tenant_id, asyncio.Lock()):
            scopes = [(TENANT, "", limits.tenant_tokens, limits.tenant_micro_usd)]
            if who.fingerprint:
                scopes.append((who.fingerprint, who.user_id, limits.user_tokens, 0))
            limited = [one for one in scopes if one[2] or one[3]]
            output = ask.output_tokens
            for scope, user_id, tokens_limit, micro_usd_limit in limited:
                share = await self._filled(
                    who.tenant_id, day, scope, user_id, (tokens_limit, micro_usd_limit), ask
                )
                if share is None:
                    return None
                fitting = ask.output_within(
                    share.tokens if tokens_limit else None,
                    share.micro_usd if micro_usd_limit else None,
                )
                if fitting < ask.least_output_tokens:
                    return scope
                output = min(output, fitting)
            # A part whose time ended while another one was fetched is not given out.
            now = self._clock.monotonic()
            if not self.is_open or any(
                self._shares[who.tenant_id, day, one[0]].until <= now for one in limited
            ):
                return None
            held = ask.counted(output)
            for scope, _, tokens_limit, micro_usd_limit in limited:
                share = self._shares[who.tenant_id, day, scope]
                share.tokens -= held.tokens if tokens_limit else 0
                share.micro_usd -= held.micro_usd if micro_usd_limit else 0
            return output

    async def _filled(
        self,
        tenant_id: str,
        day: date,
        scope: str,
        user_id: str,
        limits: tuple[int, int],
        ask: Ask,
    ) -> _Share | None:
        """Return a share that holds what is asked for, if so much is left for this replica."""
        if not self.is_open:
            return None
        share = self._shares.setdefault((tenant_id, day, scope), _Share())
        need = ask.counted(ask.output_tokens)
        now = self._clock.monotonic()
        if (
            share.until <= now
            or (limits[0] and share.tokens < need.tokens)
            or (limits[1] and share.micro_usd < need.micro_usd)
        ):
            running = self._holdings.sum(tenant_id, day, None if scope == TENANT else scope)
            seen_day, seen = self._seen.get((tenant_id, scope), (day, NOTHING))
            if seen_day != day:
                seen = NOTHING
            claim = Claim(scope, user_id, limits[0], limits[1], running, need, seen)
            # Others may count on what is told here: until it is told, nothing is there to give out.
            share.tokens = share.micro_usd = 0
            taken = await self._truth.claim(
                tenant_id, day, claim, self._parts, self._lease_seconds * PATIENCE
            )
            if taken is None:
                return None
            share.tokens, share.micro_usd = taken.tokens, taken.micro_usd
            share.until = now + self._lease_seconds
        return share

    async def declare(self) -> None:
        """Tell the other replicas what runs here and what may still be given out.

        Raises: Unavailable.
        """
        day = self.today()
        for tenant_id in self._holdings.tenants():
            self._shares.setdefault((tenant_id, day, TENANT), _Share())
            for held in self._holdings.of(tenant_id):
                if held.fingerprint:
                    self._shares.setdefault((tenant_id, day, held.fingerprint), _Share())
        for (tenant_id, of_day, scope), share in list(self._shares.items()):
            if of_day != day:
                continue
            async with self._turns.setdefault(tenant_id, asyncio.Lock()):
                running = self._holdings.sum(tenant_id, day, None if scope == TENANT else scope)
                now = self._clock.monotonic()
                if share.until <= now:
                    # Others may have gone on without it, and not know of it any longer.
                    share.tokens = share.micro_usd = 0
                unspent = Counted(share.tokens, share.micro_usd)
                await self._truth.declare(tenant_id, day, scope, running, unspent)
                if unspent != NOTHING:
                    share.until = now + self._lease_seconds

    async def withdraw(self, tenant_id: str) -> None:
        """Give back what was taken of a tenant's budgets. Raises: Unavailable."""
        async with self._turns.setdefault(tenant_id, asyncio.Lock()):
            await self._truth.withdraw(tenant_id)
            for key in [key for key in self._shares if key[0] == tenant_id]:
                del self._shares[key]


def fingerprint(user_id: str) -> str:
    """Return what budgets know a user by; "" for none."""
    if not user_id:
        return ""
    return hashlib.blake2b(user_id.encode(), digest_size=12).hexdigest()
