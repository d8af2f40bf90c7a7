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
from meshwright_model_router.adapters.budget_replicas import PATIENCE, Replicas
from meshwright_model_router.adapters.budget_truth import BudgetTruth
from meshwright_model_router.adapters.held import Holdings
from meshwright_model_router.adapters.redis_books import Answer, Look, RedisBooks, day_number
from meshwright_model_router.domain.budgets import Counted

MOST_ROUNDS: Final = 3
LOOK_AGAIN_SECONDS: Final = 0.05
"""After which a call looks again whether the others told what they hold."""
MOST_TOLD: Final = 10_000
_logger = get_logger(__name__)


class DayOpening:
    """Counts days of tenants. `fingerprint` is what Redis knows a user by."""

    def __init__(
        self,
        books: RedisBooks,
        truth: BudgetTruth,
        holdings: Holdings,
        replicas: Replicas,
        clock: Clock,
        *,
        lease_seconds: float,
        fingerprint: Callable[[str], str],
    ) -> None:
        self._books = books
        self._truth = truth
        self._holdings = holdings
        self._replicas = replicas
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._fingerprint = fingerprint
        self._turns: dict[str, asyncio.Lock] = {}
        self._waiting: dict[str, int] = {}
        self._looked_for: set[str] = set()
        self._told: dict[tuple[str, date], str] = {}
        self._is_cautious = True
        self.ended: set[str] = set()
        """Tenants of whom a lease has run out, for the sweep."""

    def note_ended(self, tenant_id: str) -> None:
        """Note that a lease of a tenant has run out."""
        self.ended.add(tenant_id)

    async def open(self, tenant_id: str, day: date) -> None:
        """Have a day ready for use, as far as that depends on us; else wait a moment.

        Raises: Unavailable, DeadlineExceeded.
        """
        # One of many callers does it; the others find it done.
        self._waiting[tenant_id] = self._waiting.get(tenant_id, 0) + 1
        try:
            async with self._turns.setdefault(tenant_id, asyncio.Lock()):
                look = await self._books.look(tenant_id, day)
                if look.counts is None:
                    await self._begin(tenant_id, day)
                    look = await self._books.look(tenant_id, day)
                if look.is_stale and look.counts is not None:
                    await self._count_when_told(tenant_id, day, look)
        finally:
            self._waiting[tenant_id] -= 1
            if not self._waiting[tenant_id]:
                del self._waiting[tenant_id], self._turns[tenant_id]

    async def _begin(self, tenant_id: str, day: date) -> None:
        async with self._truth.beginning(tenant_id, day) as was_begun:
            await self._books.open_day(tenant_id, day, is_lost=was_begun)
        if was_begun:
            budget_metrics.REBUILT.inc()
            _logger.warning("budgets_lost_and_counted_again")

    async def _count_when_told(self, tenant_id: str, day: date, look: Look) -> None:
        if look.is_lost:
            await self._tell(tenant_id, day, look.epoch)
            # Asked after the day was begun: who registers later holds nothing of before.
            silent = await self._replicas.living() - {self._replicas.replica}
            silent -= {one for one, epoch in look.told.items() if epoch == look.epoch}
            if silent:
                await self._books.ask_to_tell(tenant_id, day)
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
                return
        if await self._truth.has_shares(tenant_id, day, self._lease_seconds * PATIENCE):
            # Some replica has not told Redis yet what it gave out without it.
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            return
        await self.count(tenant_id, day, epoch=look.epoch)
        if look.is_lost:
            await self._books.ask_no_longer(tenant_id, day)

    async def tell(self) -> None:
        """Tell what calls of this process hold, where a replica asks. Raises: Unavailable."""
        for tenant_id, day in await self._books.asked_to_tell():
            look = await self._books.look(tenant_id, day)
            if look.is_lost and look.told.get(self._replicas.replica) != look.epoch:
                await self._tell(tenant_id, day, look.epoch)

    async def tell_again(self, tenant_id: str, day: date) -> None:
        """Tell what calls of this process hold if a day is of another epoch now.

        Raises: CacheUnavailable.
        """
        look = await self._books.look(tenant_id, day)
        if look.counts is not None and not self.belongs(tenant_id, day, look.epoch):
            await self._tell(tenant_id, day, look.epoch)

    async def _tell(self, tenant_id: str, day: date, epoch: str) -> None:
        # From here on no answer of an older epoch is used: `belongs`. Nothing may wait in between.
        if len(self._told) > MOST_TOLD:
            self._told = {key: one for key, one in self._told.items() if key[1] >= day}
        self._told[tenant_id, day] = epoch
        answers = self._hold_again(tenant_id)
        replica = self._replicas.replica
        answers.append(self._books.do(tenant_id, ("t", replica, day_number(day), epoch)))
        for answer in answers:
            await answer

    def belongs(self, tenant_id: str, day: date, epoch: str) -> bool:
        """Return whether something that was reserved in an epoch of a day is known there still.

        If not, it was lost before this process told what it holds, and was not told.
        """
        return self._told.get((tenant_id, day), epoch) == epoch

    async def close_if_shared(self, tenant_id: str, day: date) -> None:
        """If replicas gave out parts of a day without Redis, give out nothing of it there until
        all of them told what they hold and it was counted.

        Raises: Unavailable.
        """
        if await self._truth.has_shares(tenant_id, day, self._lease_seconds * PATIENCE):
            await self._books.open_day(tenant_id, day, is_lost=True, close=True)

    def be_cautious(self) -> None:
        """Look for parts that others still give out, until `be_bold`."""
        self._is_cautious = True
        self._looked_for.clear()

    def be_bold(self) -> None:
        """Redis is there for all replicas: without it nobody gives out anything."""
        self._is_cautious = False

    async def check(self, tenant_id: str, day: date) -> None:
        """Before something is given out of a day: do as `be_cautious` says. Raises: Unavailable."""
        if self._is_cautious and tenant_id not in self._looked_for:
            await self.close_if_shared(tenant_id, day)
            self._looked_for.add(tenant_id)

    async def hold_again(self, tenant_id: str) -> None:
        """Tell Redis what calls of this process hold. Raises: CacheUnavailable."""
        for answer in self._hold_again(tenant_id):
            await answer

    def _hold_again(self, tenant_id: str) -> list[asyncio.Future[Answer]]:
        return [
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

    async def count(
        self, tenant_id: str, day: date, *, epoch: str | None = None
    ) -> Mapping[str, int]:
        """Compare what Redis counts with the ledger, and correct it; return the differences.

        A day that is begun or closed is given out again, when it still is of `epoch`.

        At one moment of Redis: what the ledger has of reservations before it, without those that
        Redis has not settled, is what Redis must count as used; a reservation is settled when its
        row is durable, never before. Raises: Unavailable, DeadlineExceeded.
        """
        for _ in range(MOST_ROUNDS):
            look = await self._books.look(tenant_id, day)
            if look.counts is None or (look.is_stale and look.epoch != epoch):
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
        await self.open(tenant_id, day)
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
