"""The work beside reservations: leases are renewed, ended ones taken up, Redis compared."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from typing import Final

from meshwright_common.errors import ServiceError, Unavailable
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.redis import CacheUnavailable
from meshwright_common.telemetry.logging import get_logger
from meshwright_model_router.adapters import attempt_log, budget_metrics, metrics
from meshwright_model_router.adapters.budget_opening import DayOpening
from meshwright_model_router.adapters.budget_replicas import Replicas
from meshwright_model_router.adapters.budget_shares import LocalShares
from meshwright_model_router.adapters.redis_books import Answer, RedisBooks
from meshwright_model_router.adapters.redis_budgets import RedisBudgets
from meshwright_model_router.adapters.redis_lanes import RedisLanes
from meshwright_model_router.adapters.usage_rows import record_all, usage_row

TAKEN_AT_ONCE: Final = 100
HOLDERS_AT_ONCE: Final = 1000
_logger = get_logger(__name__)


class BudgetKeeping:
    """Keeps the budgets of a replica. `run` goes on until it is cancelled."""

    def __init__(  # noqa: PLR0913 - what it works for
        self,
        budgets: RedisBudgets,
        books: RedisBooks,
        opening: DayOpening,
        shares: LocalShares,
        lanes: RedisLanes,
        replicas: Replicas,
        database: Database,
        *,
        reconcile_seconds: float,
    ) -> None:
        self._budgets = budgets
        self._books = books
        self._opening = opening
        self._shares = shares
        self._lanes = lanes
        self._replicas = replicas
        self._database = database
        self._reconcile_seconds = reconcile_seconds
        self._seen: set[str] = set()

    async def run(self) -> None:
        """Renew, sweep and compare, each at its own pace, until cancelled."""
        leasing = self._budgets.leasing
        async with asyncio.TaskGroup() as group:
            group.create_task(_every(leasing.heartbeat_seconds, self.beat))
            group.create_task(_every(leasing.heartbeat_seconds, self.register))
            group.create_task(_every(leasing.telling_seconds, self.tell))
            group.create_task(_every(leasing.heartbeat_seconds * 2, self.sweep))
            group.create_task(_every(self._reconcile_seconds, self.reconcile))

    async def beat(self) -> None:
        """Renew the leases of what runs here; while Redis is away, tell the others by the ledger.

        Raises: Unavailable.
        """
        if self._budgets.is_away:
            try:
                await self._books.ping()
            except CacheUnavailable:
                await self._budgets.go_away()
                await self._shares.declare()
                return
            await self._budgets.come_back(self._seen)
        try:
            await self._renew()
            await self._lanes.renew()
        except CacheUnavailable:
            self._budgets.note_away()
            return
        self._budgets.settle_all()

    async def _renew(self) -> None:
        asked: list[tuple[str, asyncio.Future[Answer]]] = []
        holdings = self._budgets.holdings
        for tenant_id in holdings.tenants():
            self._seen.add(tenant_id)
            ids = [held.hold.reservation_id for held in holdings.of(tenant_id)]
            asked.append((tenant_id, self._books.do(tenant_id, ("k", *ids))))
        for tenant_id, waiting in asked:
            answer = await waiting
            if answer.ended:
                self._opening.note_ended(tenant_id)
            missing = list(answer.value)
            # Some were settled between the question and the answer.
            if any(holdings.find(tenant_id, missing)):
                _logger.warning("budgets_leases_lost", count=len(missing))
                await self._opening.hold_again(tenant_id)

    async def register(self) -> None:
        """Have the others know that this replica lives. Raises: Unavailable."""
        others_are_away = await self._replicas.tell()
        if not (others_are_away or self._budgets.is_away or self._replicas.is_away):
            self._opening.be_bold()

    async def tell(self) -> None:
        """Tell what runs here, where another replica waits for it. Raises: Unavailable."""
        if self._budgets.is_away:
            return
        try:
            await self._opening.tell()
        except CacheUnavailable:
            self._budgets.note_away()

    async def sweep(self) -> None:
        """Take up attempts whose process died: each gets its one row, and its hold is settled.

        Raises: Unavailable.
        """
        if self._budgets.is_away:
            return
        ended, self._opening.ended = self._opening.ended, set()
        idle = await self._books.idle_holders(HOLDERS_AT_ONCE)
        for tenant_id in ended | set(idle):
            await self._sweep_tenant(tenant_id)
        for tenant_id, noted in idle.items():
            await self._books.forget_holder(tenant_id, noted)

    async def _sweep_tenant(self, tenant_id: str) -> None:
        while taken := await self._books.take_ended(tenant_id, TAKEN_AT_ONCE):
            attempts = [attempt_log.decode(tenant_id, one, held) for one, held in taken]
            rows = [usage_row(one.record, one.hold) for one in attempts]
            counted = await record_all(self._database, tenant_id, rows)
            for one, amounts in zip(attempts, counted, strict=True):
                self._budgets.settle_later(tenant_id, one.hold.reservation_id, amounts)
                metrics.observe(one.record)
            budget_metrics.LOST.inc(len(attempts))
            _logger.warning("attempts_swept", count=len(attempts))
            if len(taken) < TAKEN_AT_ONCE:
                return

    async def reconcile(self) -> None:
        """Compare what Redis counts for the tenants met here with the ledger; correct it.

        Raises: Unavailable.
        """
        if self._budgets.is_away:
            return
        seen, self._seen = self._seen, set(self._budgets.holdings.tenants())
        await self.compare(sorted(seen), self._shares.today())

    async def compare(self, tenants: Sequence[str], day: date) -> None:
        """Compare and correct a day of tenants. Raises: Unavailable."""
        for tenant_id in tenants:
            look = await self._books.look(tenant_id, day)
            if look.counts is not None and not look.is_stale:
                await self._opening.count(tenant_id, day)


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` again and again; what is away is tried again the next time."""
    while True:
        await asyncio.sleep(seconds)
        with contextlib.suppress(Unavailable):
            try:
                await work()
            except ServiceError as error:
                _logger.warning("budgets_work_failed", reason=error.reason)
