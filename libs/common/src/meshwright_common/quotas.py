"""What a tenant may use, as the directory says it: asked for rarely, and known in time.

    quotas = Quotas(DirectoryServiceStub(channels.open("session")), "chat", settings.quotas)
    quota = await quotas.admit(caller.tenant_id)

An answer is kept for a few seconds, so that a suspension acts within 5 s; calls that come while it
is asked for wait for that one question. Who counts a quota exactly is the service that owns what is
counted, in the transaction that adds to it: from here come the limits alone.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Literal

from meshwright.session.v1 import directory_service_pb2, tenant_pb2
from meshwright_common.clock import Clock, SystemClock
from meshwright_common.context import bind, service_context
from meshwright_common.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    QuotaExceeded,
    ServiceError,
    Unavailable,
)
from meshwright_common.settings import QuotaSettings
from meshwright_common.telemetry import metrics
from meshwright_common.telemetry.logging import get_logger

if TYPE_CHECKING:
    from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceAsyncStub

MOST_TENANTS: Final = 10_000
"""Answers that are kept; the one used longest ago goes first."""
ASK_SECONDS: Final = 2.0
PERMISSION: Final = "tenant:read"
TURN_SECONDS: Final = 5.0
"""When another turn may have ended."""

QuotaName = Literal[
    "sessions",
    "tokens_per_day",
    "documents",
    "storage_bytes",
    "concurrent_turns",
    "cost_micro_usd_per_day",
]
PlanName = Literal["starter", "professional", "enterprise"]
_PLANS: Final[dict[int, PlanName]] = {
    tenant_pb2.PLAN_STARTER: "starter",
    tenant_pb2.PLAN_PROFESSIONAL: "professional",
    tenant_pb2.PLAN_ENTERPRISE: "enterprise",
}
logger = get_logger(__name__)


class TenantSuspended(FailedPrecondition):
    """The tenant exists, and its members may not call."""

    reason = "TENANT_SUSPENDED"
    text = "The tenant is suspended."


@dataclass(frozen=True, slots=True)
class TenantQuota:
    """Limits of a tenant, 0 being none, and the tokens used today where these are limited."""

    tenant_id: str
    plan: PlanName
    active: bool
    sessions: int
    tokens_per_day: int
    documents: int
    storage_bytes: int
    concurrent_turns: int
    models: tuple[str, ...]
    alert_percents: tuple[int, ...]
    tokens_used: int = 0
    cost_micro_usd_per_day: int = 0

    def refuse_inactive(self) -> None:
        """Raises: TenantSuspended."""
        if not self.active:
            raise TenantSuspended

    def refuse_spent_tokens(self, now: datetime) -> None:
        """Raises: QuotaExceeded, with the time until the next UTC day, when today's are used."""
        if 0 < self.tokens_per_day <= self.tokens_used:
            raise quota_exceeded(
                "tokens_per_day",
                used=self.tokens_used,
                limit=self.tokens_per_day,
                plan=self.plan,
                tenant_id=self.tenant_id,
                retry_after_seconds=seconds_to_next_day(now),
            )

    def refuse_turns(self, running: int) -> None:
        """Raises: QuotaExceeded when no further turn may begin beside so many."""
        if 0 < self.concurrent_turns <= running:
            raise quota_exceeded(
                "concurrent_turns",
                used=running,
                limit=self.concurrent_turns,
                plan=self.plan,
                tenant_id=self.tenant_id,
                retry_after_seconds=TURN_SECONDS,
            )

    def allows_model(self, name: str) -> bool:
        """Return whether the tenant may use a model of this name."""
        wanted = name.lower()
        return not self.models or any(fnmatchcase(wanted, one) for one in self.models)


def quota_exceeded(
    quota: QuotaName,
    *,
    used: int,
    limit: int,
    plan: str,
    tenant_id: str,
    retry_after_seconds: float | None = None,
) -> QuotaExceeded:
    """Return the error of a quota that is used up, and count it."""
    metrics.QUOTA_REFUSED.labels(quota, plan).inc()
    return QuotaExceeded(
        retry_after_seconds=retry_after_seconds,
        quota=quota,
        limit=str(limit),
        used=str(used),
        plan=plan,
        tenant_id=tenant_id,
    )


def seconds_to_next_day(now: datetime) -> float:
    """Return the seconds until the next UTC day begins, 1 at least."""
    today = now.astimezone(UTC)
    midnight = today.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return max(1.0, (midnight - today).total_seconds())


@dataclass(slots=True)
class _Known:
    quota: TenantQuota
    asked_at: float


class Quotas:
    """The quotas of all tenants whom this process meets. Asks in the name of `service`."""

    def __init__(
        self,
        directory: DirectoryServiceAsyncStub,
        service: str,
        settings: QuotaSettings,
        clock: Clock | None = None,
    ) -> None:
        self._directory = directory
        self._service = service
        self._settings = settings
        self._clock = clock or SystemClock()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._flights: dict[str, asyncio.Task[TenantQuota]] = {}

    async def admit(self, tenant_id: str) -> TenantQuota:
        """Return the quota of a tenant that may begin something now, tokens included.

        Raises: TenantSuspended, QuotaExceeded for tokens; as `of`.
        """
        quota = await self.of(tenant_id)
        quota.refuse_inactive()
        quota.refuse_spent_tokens(self._clock.now())
        return quota

    async def of(self, tenant_id: str) -> TenantQuota:
        """Return a tenant's quota, a few seconds old at most.

        While the directory is away the last answer holds, for 5 minutes by default; then, and for
        tenants not met before, `when_unknown` of the settings decides: refuse, or a quota without
        limits. Raises: Unavailable, DeadlineExceeded; NotFound (TENANT_NOT_FOUND).
        """
        known = self._known.get(tenant_id)
        now = self._clock.monotonic()
        if known is not None and now - known.asked_at < self._settings.fresh_seconds:
            return known.quota
        try:
            return await self._asked(tenant_id)
        except (Unavailable, DeadlineExceeded) as error:
            return self._without_answer(tenant_id, error)

    def _without_answer(self, tenant_id: str, error: ServiceError) -> TenantQuota:
        known = self._known.get(tenant_id)
        age = None if known is None else self._clock.monotonic() - known.asked_at
        if known is not None and age is not None and age < self._settings.last_good_seconds:
            logger.warning("quota_from_last_answer", reason=error.reason, age_seconds=round(age))
            return known.quota
        if self._settings.when_unknown == "allow":
            logger.warning("quota_unknown", reason=error.reason)
            return _unlimited(tenant_id)
        raise error

    async def _asked(self, tenant_id: str) -> TenantQuota:
        flight = self._flights.get(tenant_id)
        if flight is None:
            # A task of its own: whoever asked first may leave, and the others still wait for it.
            # house: naked-task: kept in _flights until done, and bounded by its deadline
            flight = asyncio.create_task(self._ask(tenant_id))
            self._flights[tenant_id] = flight
            flight.add_done_callback(self._landed(tenant_id))
        return await asyncio.shield(flight)

    def _landed(self, tenant_id: str) -> Callable[[asyncio.Task[TenantQuota]], None]:
        def landed(flight: asyncio.Task[TenantQuota]) -> None:
            del self._flights[tenant_id]
            if not flight.cancelled():
                # Everybody who waited may have left.
                flight.exception()

        return landed

    async def _ask(self, tenant_id: str) -> TenantQuota:
        asked_at = self._clock.monotonic()
        call = service_context(self._service, tenant_id, (PERMISSION,), timeout_seconds=ASK_SECONDS)
        with bind(call):
            answer = await self._directory.GetQuota(
                directory_service_pb2.GetQuotaRequest(for_admission=True)
            )
        quota = _quota(tenant_id, answer)
        self._known[tenant_id] = _Known(quota, asked_at)
        self._known.move_to_end(tenant_id)
        if len(self._known) > MOST_TENANTS:
            self._known.popitem(last=False)
        return quota


def _quota(tenant_id: str, answer: directory_service_pb2.GetQuotaResponse) -> TenantQuota:
    limits = answer.quota
    return TenantQuota(
        tenant_id=tenant_id,
        plan=_PLANS.get(answer.plan, "enterprise"),
        active=answer.state == tenant_pb2.TENANT_STATE_ACTIVE,
        sessions=limits.max_sessions,
        tokens_per_day=limits.max_tokens_per_day,
        documents=limits.max_documents,
        storage_bytes=limits.max_storage_bytes,
        concurrent_turns=limits.max_concurrent_turns,
        models=tuple(limits.allowed_models),
        alert_percents=tuple(answer.alert_percents),
        tokens_used=answer.used.max_tokens_per_day,
        cost_micro_usd_per_day=limits.max_cost_micro_usd_per_day,
    )


def _unlimited(tenant_id: str) -> TenantQuota:
    return TenantQuota(
        tenant_id=tenant_id,
        plan="enterprise",
        active=True,
        sessions=0,
        tokens_per_day=0,
        documents=0,
        storage_bytes=0,
        concurrent_turns=0,
        models=(),
        alert_percents=(),
    )
