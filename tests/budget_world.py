"""Replicas of the budgets, each with what it needs, on one Redis and one database."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from meshwright_common.clock import SystemClock
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings, RedisSettings
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.redis import RedisClient, open_redis
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.waiting import eventually
from meshwright_model_router.adapters.budgeting import Budgeting, budgeting_of
from meshwright_model_router.adapters.postgres_usage import PostgresUsageLog, open_usage_log
from meshwright_model_router.domain.budget_rules import Limits
from meshwright_model_router.domain.budgets import Attempt, Estimate, Reservation
from meshwright_model_router.domain.catalogue import Deployment
from meshwright_model_router.domain.output import TokenUsage
from meshwright_model_router.domain.pricing import PriceHistory, Prices
from meshwright_model_router.domain.usage import Attribution, Operation, Outcome, UsageRecord
from meshwright_model_router.limit_settings import LimitSettings

DEPLOYMENT = Deployment(
    name="sim",
    model="sim",
    provider="openai",
    prices=PriceHistory.of(Prices(1_000_000, 2_000_000)),
)


@dataclass
class AgreedLimits:
    """`TenantLimits` that a test says."""

    limits: Limits = field(default_factory=Limits)

    async def of(self, tenant_id: str) -> Limits:
        """Return the limits."""
        return self.limits


@dataclass
class Replica:
    """One process of the router, as far as budgets go."""

    budgeting: Budgeting
    usage_log: PostgresUsageLog
    stack: AsyncExitStack

    async def reserve(
        self, tenant_id: str, *, prompt: int = 0, output: int = 100, user_id: str = "", **more: str
    ) -> Reservation:
        """Reserve for an attempt."""
        attempt = attempt_of(tenant_id, user_id, **more)
        estimate = Estimate(prompt, output) if output else Estimate(prompt, no_output=True)
        return await self.budgeting.budgets.reserve(attempt, estimate)

    async def use(
        self, tenant_id: str, reservation: Reservation, tokens: int, *, user_id: str = ""
    ) -> None:
        """Record that an attempt produced tokens."""
        record = record_of(attempt_of(tenant_id, user_id), tokens)
        await self.usage_log.settle(record, reservation)


def attempt_of(tenant_id: str, user_id: str = "", *, feature: str = "") -> Attempt:
    """Return an attempt of a call of its own."""
    return Attempt(
        tenant_id, user_id, "", Attribution(new_id(), feature=feature), Operation.GENERATE, "sim",
        DEPLOYMENT,
    )  # fmt: skip


def record_of(attempt: Attempt, tokens: int) -> UsageRecord:
    """Return the record of an attempt that produced tokens at 2 millionths each."""
    return UsageRecord(
        tenant_id=attempt.tenant_id,
        user_id=attempt.user_id,
        correlation_id="",
        attribution=attempt.attribution,
        operation=attempt.operation,
        outcome=Outcome.COMPLETED,
        model="sim",
        deployment="sim",
        provider="openai",
        usage=TokenUsage(0, tokens, cost_micro_usd=2 * tokens),
        first_token_milliseconds=1,
        duration_milliseconds=1,
    )


@dataclass
class World:
    """Replicas on the same stores, and what the stores hold."""

    database: Database
    redis: RedisClient
    agreed: AgreedLimits
    database_settings: DatabaseSettings
    redis_settings: RedisSettings
    settings: LimitSettings
    tenant: str = field(default_factory=new_id)

    async def replica(self, stack: AsyncExitStack, **settings: object) -> Replica:
        """Start a replica that lives until the stack is closed."""
        clock = SystemClock()
        chosen = self.settings.model_copy(update=settings)
        redis = await stack.enter_async_context(open_redis(self.redis_settings))
        budgeting = await stack.enter_async_context(
            budgeting_of(chosen, self.database, redis, self.agreed, clock)
        )
        log = await stack.enter_async_context(open_usage_log(self.database, clock))
        return Replica(budgeting, log, stack)

    async def state(self, replica: Replica, scope: str = "tenant", user_id: str = "") -> list[int]:
        """Return used and reserved tokens as Redis counts them."""
        states, _ = await replica.budgeting.budgets.states(self.tenant, user_id)
        found = next(one for one in states if one.scope == scope and one.name == "tokens_per_day")
        return [found.used, found.reserved]

    async def comes_to(self, replica: Replica, used: int, reserved: int) -> None:
        """Wait until Redis counts so many tokens."""

        async def does() -> bool:
            return [used, reserved] == await self.state(replica)

        await eventually(does)

    async def rows(self) -> list[dict[str, object]]:
        """Return the usage rows of the tenant."""
        async with unit_of_work(self.database, self.tenant) as connection:
            rows = await connection.fetch(
                "SELECT * FROM model_router.model_usage WHERE tenant_id = $1", self.tenant
            )
        return [dict(row) for row in rows]
