"""Rows of tenants' deployments, prices and policies, as the domain has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

from meshwright_common.storage.postgres import Record
from meshwright_model_router.domain.catalogue import Deployment
from meshwright_model_router.domain.pricing import PriceHistory, PricePeriod, Prices
from meshwright_model_router.domain.routing import (
    CoolDown,
    DeploymentLimits,
    RoutingPolicy,
    Strategy,
)
from meshwright_model_router.domain.routing_records import DeploymentRecord, PolicyRecord
from meshwright_model_router.domain.routing_store import TenantRouting

Row: TypeAlias = "Record | Mapping[str, Any]"
"""A record of the driver, or an object of PostgreSQL's JSON, whose times are text."""

DEPLOYMENT_COLUMNS: Final = (
    *("name", "model", "provider", "provider_model", "base_url", "credential_name", "disabled"),
    *("priority", "weight", "requests_per_minute", "tokens_per_minute", "concurrent_requests"),
    *("context_window", "capabilities", "embedding_dimensions"),
)
POLICY_COLUMNS: Final = (
    *("name", "models", "strategy", "sticky_by_session", "fallback_models", "max_attempts"),
    *("hedge_after_seconds", "consecutive_failures", "error_rate", "cool_down_seconds"),
)


def deployment_values(record: DeploymentRecord) -> tuple[object, ...]:
    """Return the values of DEPLOYMENT_COLUMNS."""
    one, limits = record.deployment, record.deployment.limits
    return (
        one.name,
        one.model,
        one.provider,
        one.provider_model,
        record.base_url,
        record.credential_name,
        one.disabled,
        one.priority,
        one.weight,
        limits.requests_per_minute,
        limits.tokens_per_minute,
        limits.concurrent_requests,
        one.context_window,
        list(one.capabilities),
        one.embedding_dimensions,
    )


def policy_values(policy: RoutingPolicy) -> tuple[object, ...]:
    """Return the values of POLICY_COLUMNS."""
    return (
        policy.name,
        list(policy.models),
        policy.strategy.value,
        policy.sticky_by_session,
        list(policy.fallback_models),
        policy.max_attempts,
        policy.hedge_after_seconds,
        policy.cool_down.consecutive_failures,
        policy.cool_down.error_rate,
        policy.cool_down.seconds,
    )


def deployment_record(row: Row, prices: PriceHistory) -> DeploymentRecord:
    """Return a tenant's deployment."""
    return DeploymentRecord(
        Deployment(
            name=row["name"],
            model=row["model"],
            provider=row["provider"],
            provider_model=row["provider_model"],
            tenant_id=row["tenant_id"],
            disabled=row["disabled"],
            priority=row["priority"],
            weight=row["weight"],
            limits=DeploymentLimits(
                row["requests_per_minute"], row["tokens_per_minute"], row["concurrent_requests"]
            ),
            context_window=row["context_window"],
            capabilities=tuple(row["capabilities"]),
            prices=prices,
            embedding_dimensions=row["embedding_dimensions"],
        ),
        base_url=row["base_url"],
        credential_name=row["credential_name"],
        revision=row["revision"],
        create_time=_time(row["create_time"]),
        update_time=_time(row["update_time"]),
    )


def policy_record(row: Row) -> PolicyRecord:
    """Return a tenant's policy."""
    return PolicyRecord(
        RoutingPolicy(
            name=row["name"],
            models=tuple(row["models"]),
            strategy=Strategy(row["strategy"]),
            sticky_by_session=row["sticky_by_session"],
            fallback_models=tuple(row["fallback_models"]),
            max_attempts=row["max_attempts"],
            hedge_after_seconds=row["hedge_after_seconds"],
            cool_down=CoolDown(
                row["consecutive_failures"], row["error_rate"], row["cool_down_seconds"]
            ),
        ),
        revision=row["revision"],
        update_time=_time(row["update_time"]),
    )


def price_period(row: Row) -> PricePeriod:
    """Return a price that a tenant set."""
    return PricePeriod(
        _time(row["effective_time"]),
        Prices(row["prompt_micro_usd"], row["completion_micro_usd"], row["cached_micro_usd"]),
        builtin=False,
    )


def tenant_routing(
    deployments: Iterable[Row], prices: Iterable[Row], policies: Iterable[Row]
) -> TenantRouting:
    """Return all that a tenant has, by name."""
    histories: dict[str, list[PricePeriod]] = {}
    for row in prices:
        histories.setdefault(row["deployment_id"], []).append(price_period(row))
    records = (
        deployment_record(row, PriceHistory.ordered(histories.get(row["deployment_id"], ())))
        for row in deployments
    )
    return TenantRouting(
        tuple(sorted(records, key=lambda one: one.name)),
        tuple(sorted(map(policy_record, policies), key=lambda one: one.policy.name)),
    )


def _time(value: datetime | str) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value
