"""Days that Redis does not have, or not rightly: they are counted from the ledger before use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import date
from typing import Final

from meshwright_common.clock import Clock
from meshwright_common.storage.redis import CacheUnavailable
from meshwright_common.telemetry.logging import get_logger
from meshwright_model_router.adapters import budget_metrics
from meshwright_model_router.adapters.budget_truth import BudgetTruth
from meshwright_model_router.adapters.held import Holdings
from meshwright_model_router.adapters.redis_books import Look, RedisBooks, day_number
from meshwright_model_router.domain.budgets import Counted

MISSING: Final = -1
MOST_ROUNDS: Final = 3
_logger = get_logger(__name__)


class DayOpening:
    """Counts days of tenants. `fingerprint` is what Redis knows a user by."""

    def __init__(
        self,
        books: RedisBooks,
        truth: BudgetTruth,
        holdings: Holdings,
        clock: Clock,
        *,
        lease_seconds: float,
        grace_seconds: float,
        fingerprint: Callable[[str], str],
    ) -> None:
        self._books = books
        self._truth = truth
        self._holdings = holdings
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._grace_seconds = grace_seconds
        self._fingerprint = fingerprint
        self._turns: dict[str, asyncio.Lock] = {}
        self._waiting: dict[str, int] = {}
        self._looked_for: set[str] = set()
        self._cautious_until = 0.0
        self.be_cautious()
        self.ended: set[str] = set()
        """Tenants of whom a lease has run out, for the sweep."""

    def note_ended(self, tenant_id: str) -> None:
        """Note that a lease of a tenant has run out."""
        self.ended.add(tenant_id)

    async def open(self, tenant_id: str, day: date, state: int) -> None:
        """Have a day ready for use, as far as that depends on us.

        `state` is what a reservation was told: milliseconds until it is ready, 0 when it was not
        counted, `MISSING`. Raises: Unavailable, DeadlineExceeded.
        """
        if state > 0:
            await asyncio.sleep(state / 1000)
            return
        # One of many callers does it; the others find it done.
        self._waiting[tenant_id] = self._waiting.get(tenant_id, 0) + 1
        try:
            async with self._turns.setdefault(tenant_id, asyncio.Lock()):
                look = await self._books.look(tenant_id, day)
                if look.counts is None:
                    await self._begin(tenant_id, day)
                elif not look.is_stale or look.ready_milliseconds > look.now_milliseconds:
                    return
                elif await self._truth.has_shares(tenant_id, day, self._lease_seconds):
                    # Some replica has not told Redis yet what it gave out without it.
                    await asyncio.sleep(self._grace_seconds / 4)
                else:
                    await self.count(tenant_id, day)
        finally:
            self._waiting[tenant_id] -= 1
            if not self._waiting[tenant_id]:
                del self._waiting[tenant_id], self._turns[tenant_id]

    async def _begin(self, tenant_id: str, day: date) -> None:
        async with self._truth.beginning(tenant_id, day) as was_begun:
            wait = await self._books.open_day(
                tenant_id, day, wait_seconds=self._grace_seconds if was_begun else 0
            )
        if was_begun:
            budget_metrics.REBUILT.inc()
            _logger.warning("budgets_lost_and_counted_again", wait_seconds=wait)
        await self.hold_again(tenant_id)
        if wait <= 0:
            await self.count(tenant_id, day)

    async def close_if_shared(self, tenant_id: str, day: date) -> None:
        """If replicas gave out parts of a day without Redis, give out nothing of it there until
        all of them told what they hold and it was counted.

        Raises: Unavailable.
        """
        if await self._truth.has_shares(tenant_id, day, self._lease_seconds):
            await self._books.open_day(tenant_id, day, wait_seconds=self._grace_seconds, close=True)
            await self.hold_again(tenant_id)

    def be_cautious(self) -> None:
        """Look for parts that others still give out, for as long as some may not know better."""
        self._cautious_until = self._clock.monotonic() + 2 * self._grace_seconds
        self._looked_for.clear()

    async def check(self, tenant_id: str, day: date) -> None:
        """Before something is given out of a day: do as `be_cautious` says. Raises: Unavailable."""
        if self._clock.monotonic() < self._cautious_until and tenant_id not in self._looked_for:
            self._looked_for.add(tenant_id)
            await self.close_if_shared(tenant_id, day)

    async def hold_again(self, tenant_id: str) -> None:
        """Tell Redis what calls of this process hold. Raises: CacheUnavailable."""
        answers = [
            self._books.do(
                tenant_id,
                (
                    *("a", held.hold.reservation_id, day_number(held.hold.day), held.fingerprint),
                    *(held.hold.held.tokens, held.hold.held.micro_usd),
                    *(held.hold.reserved_at_milliseconds, held.logged),
                ),
            )
            for held in self._holdings.of(tenant_id)
        ]
        for answer in answers:
            await answer

    async def count(self, tenant_id: str, day: date) -> Mapping[str, int]:
        """Compare what Redis counts with the ledger, and correct it; return the differences.

        At one moment of Redis: what the ledger has of reservations before it, without those that
        Redis has not settled, is what Redis must count as used; a reservation is settled when its
        row is durable, never before. Raises: Unavailable, DeadlineExceeded.
        """
        for _ in range(MOST_ROUNDS):
            look = await self._books.look(tenant_id, day)
            if look.counts is None:
                return {}
            used = await self._truth.used(tenant_id, day, look.now_milliseconds, look.unsettled)
            differences = self._differences(look, used)
            if not differences and not look.is_stale:
                return {}
            if await self._books.correct(tenant_id, day, look.generation, differences):
                if differences and not look.is_stale:
                    budget_metrics.DRIFT_TOKENS.inc(abs(differences.get("tu", 0)))
                    _logger.warning("budgets_corrected", tokens=differences.get("tu", 0))
                return differences
        raise CacheUnavailable("Budgets are counted by others at the same time.")

    def _differences(self, look: Look, used: Mapping[str, Counted]) -> Mapping[str, int]:
        counts = look.counts or {}
        wanted = self._wanted(used)
        names = {name for name in counts if name in {"tu", "cu"} or name.startswith("u:")}
        return {
            name: difference
            for name in names | set(wanted)
            if (difference := wanted.get(name, 0) - counts.get(name, 0))
        }

    def _wanted(self, used: Mapping[str, Counted]) -> dict[str, int]:
        wanted = {
            "tu": sum(one.tokens for one in used.values()),
            "cu": sum(one.micro_usd for one in used.values()),
        }
        for user_id, counted in used.items():
            if user_id:
                wanted[f"u:{self._fingerprint(user_id)}"] = counted.tokens
        return wanted

    async def counted_there(self, tenant_id: str, day: date) -> Mapping[str, int]:
        """Return what is counted of a day that Redis does not have yet. Raises: Unavailable."""
        await self.open(tenant_id, day, MISSING)
        return (await self._books.look(tenant_id, day)).counts or {}

    async def counted_here(self, tenant_id: str, day: date) -> Mapping[str, int]:
        """Return what the ledger counts, and what calls of this process hold.

        Raises: Unavailable.
        """
        held = self._holdings.of(tenant_id)
        now = int(self._clock.now().timestamp() * 1000) + 1000
        used = await self._truth.used(
            tenant_id, day, now, [one.hold.reservation_id for one in held]
        )
        counts = self._wanted(used)
        sum_held = self._holdings.sum(tenant_id, day)
        counts |= {"tr": sum_held.tokens, "cr": sum_held.micro_usd}
        for mark in {one.fingerprint for one in held if one.fingerprint}:
            counts[f"r:{mark}"] = self._holdings.sum(tenant_id, day, mark).tokens
        return counts
