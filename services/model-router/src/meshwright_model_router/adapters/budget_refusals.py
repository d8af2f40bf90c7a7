"""What is said when a budget has no room: by how much, and when to come again."""

from datetime import UTC, datetime
from typing import Final

from meshwright_common.errors import QuotaExceeded
from meshwright_common.quotas import seconds_to_next_day
from meshwright_model_router.adapters import budget_metrics
from meshwright_model_router.adapters.redis_books import Answer
from meshwright_model_router.domain.budget_rules import Ask

TOKENS: Final = "tokens_per_day"
MICRO_USD: Final = "cost_micro_usd_per_day"
_DIMENSIONS: Final = {1: (TOKENS, "tenant"), 2: (TOKENS, "user"), 3: (MICRO_USD, "tenant")}
FREED_SECONDS: Final = 1.0
"""When a running call may have given back what stands in the way."""


def exceeded(
    ask: Ask, answer: Answer, dimension: int, used: int, reserved: int, limit: int
) -> QuotaExceeded:
    """Return the refusal by Redis' counts of one dimension."""
    name, scope = _DIMENSIONS[dimension]
    least = ask.counted(ask.least_output_tokens)
    needed = least.micro_usd if name == MICRO_USD else least.tokens
    moment = datetime.fromtimestamp(answer.now_milliseconds / 1000, UTC)
    reset = seconds_to_next_day(moment)
    budget_metrics.REFUSED.labels(name, scope).inc()
    return QuotaExceeded(
        # What running calls hold is more than they use, as a rule.
        retry_after_seconds=FREED_SECONDS if used + needed <= limit else reset,
        quota=name,
        scope=scope,
        limit=str(limit),
        used=str(used),
        reserved=str(reserved),
        remaining=str(max(0, limit - used - reserved)),
        reset_seconds=str(round(reset)),
        plan=ask.limits.plan,
    )


def share_exceeded(
    ask: Ask, scope: str, now: datetime, retry_after_seconds: float
) -> QuotaExceeded:
    """Return the refusal by this replica's part of a budget, while Redis is away."""
    tokens = ask.limits.user_tokens if scope == "user" else ask.limits.tenant_tokens
    limit = str(tokens or ask.limits.tenant_micro_usd)
    name = TOKENS if tokens else MICRO_USD
    budget_metrics.REFUSED.labels(name, scope).inc()
    return QuotaExceeded(
        retry_after_seconds=retry_after_seconds,
        quota=name,
        scope=scope,
        limit=limit,
        # As far as this replica may go: it is used, or others may use it.
        used=limit,
        reserved="0",
        remaining="0",
        reset_seconds=str(round(seconds_to_next_day(now))),
        plan=ask.limits.plan,
    )
