"""Budgets put together, for the composition root."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from meshwright_common.clock import Clock
from meshwright_common.errors import Unavailable
from meshwright_common.ids import new_id
from meshwright_common.quotas import Quotas
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.redis import RedisClient
from meshwright_model_router.adapters.budget_keeping import BudgetKeeping
from meshwright_model_router.adapters.budget_opening import DayOpening
from meshwright_model_router.adapters.budget_replicas import Replicas
from meshwright_model_router.adapters.budget_shares import LocalShares, fingerprint
from meshwright_model_router.adapters.budget_truth import BudgetTruth
from meshwright_model_router.adapters.held import Holdings
from meshwright_model_router.adapters.leasing import Leasing
from meshwright_model_router.adapters.quota_limits import QuotaLimits
from meshwright_model_router.adapters.redis_books import RedisBooks
from meshwright_model_router.adapters.redis_budgets import RedisBudgets, TenantLimits
from meshwright_model_router.adapters.redis_lanes import RedisLanes
from meshwright_model_router.limit_settings import LimitSettings


@dataclass(frozen=True, slots=True)
class Budgeting:
    """The budgets, and the work beside them."""

    budgets: RedisBudgets
    keeping: BudgetKeeping


def open_budgets(
    settings: LimitSettings, database: Database, redis: RedisClient, quotas: Quotas, clock: Clock
) -> AbstractAsyncContextManager[Budgeting]:
    """Open the budgets of this replica; leaving the block sends what was settled.

    Open them before the usage log, which settles until its own end.
    """
    limits = QuotaLimits(quotas, settings.rules())
    return budgeting_of(settings, database, redis, limits, clock)


@asynccontextmanager
async def budgeting_of(
    settings: LimitSettings,
    database: Database,
    redis: RedisClient,
    limits: TenantLimits,
    clock: Clock,
) -> AsyncIterator[Budgeting]:
    """Do as `open_budgets`, with limits from elsewhere than the directory."""
    rules, leasing = settings.rules(), Leasing(settings.lease_seconds)
    holdings = Holdings()
    books = RedisBooks(redis, clock, round(settings.lease_seconds * 1000))
    replicas = Replicas(database, new_id(), clock, settings.lease_seconds)
    truth = BudgetTruth(database, replicas.replica)
    opening = DayOpening(
        books,
        truth,
        holdings,
        replicas,
        clock,
        lease_seconds=leasing.lease_seconds,
        fingerprint=fingerprint,
    )
    shares = LocalShares(truth, holdings, clock, settings.replicas, leasing.lease_seconds)
    lanes = RedisLanes(
        redis,
        clock,
        lease_milliseconds=round(settings.lease_seconds * 1000),
        parts=settings.replicas,
    )
    budgets = RedisBudgets(
        books,
        opening,
        shares,
        lanes,
        limits,
        rules,
        clock,
        replicas=replicas,
        leasing=leasing,
        when_away=settings.when_away,
        holdings=holdings,
    )
    keeping = BudgetKeeping(
        *(budgets, books, opening, shares, lanes, replicas, database),
        reconcile_seconds=settings.reconcile_seconds,
    )
    yield Budgeting(budgets, keeping)
    await budgets.close()
    await books.close()
    if not holdings.tenants():
        # Else the others wait until it is sure that what is held has ended.
        with contextlib.suppress(Unavailable):
            await replicas.leave()
