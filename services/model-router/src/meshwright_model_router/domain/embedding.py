"""Turning texts into vectors: choose the deployment, repeat what may be repeated, record."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import count

from meshwright_common.clock import Clock
from meshwright_common.context import current, principal, remaining_seconds
from meshwright_common.errors import ServiceError
from meshwright_model_router.domain.access import ModelAccess
from meshwright_model_router.domain.catalogue import Route
from meshwright_model_router.domain.fallback import delay_before_retry
from meshwright_model_router.domain.output import ReportedUsage, TokenUsage
from meshwright_model_router.domain.ports import EmbeddingProvider, UsageLog, Vectors
from meshwright_model_router.domain.pricing import Prices
from meshwright_model_router.domain.tokens import count_text
from meshwright_model_router.domain.usage import (
    Attribution,
    Operation,
    Outcome,
    UsageRecord,
    priced,
    settle,
)


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors of unit length in the order of the texts, who made them, and what it took."""

    vectors: Sequence[Sequence[float]]
    model: str
    usage: TokenUsage


class Embedder:
    """The use case behind Embed.

    `free_providers` name the kinds that cost nothing, because they are computed here: their usage
    is recorded without waiting for it, so that a search does not wait for a write.
    """

    def __init__(
        self,
        access: ModelAccess,
        usage_log: UsageLog,
        clock: Clock,
        *,
        free_providers: frozenset[str],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._access = access
        self._usage_log = usage_log
        self._clock = clock
        self._free_providers = free_providers
        self._sleep = sleep

    async def embed(
        self, model: str, texts: Sequence[str], attribution: Attribution, *, dimensions: int = 0
    ) -> Embedded:
        """Return one vector a text. `dimensions` 0 takes the model's own length.

        Leaves one usage record, however it ends.
        Raises: as `ModelAccess.embedding`; InvalidArgument for dimensions that the model
        has not; PROVIDER_*.
        """
        route = await self._access.embedding(model)
        self._usage_log.admit()
        call = _Call(route, attribution, self._clock)
        prices = route.deployment.prices.at(self._clock.now())
        outcome, reason, usage = Outcome.CANCELLED, "", TokenUsage()
        recorded = False
        try:
            vectors = await self._attempts(route, texts, dimensions)
            outcome, usage = Outcome.COMPLETED, _settled(vectors, texts, prices)
            if route.deployment.provider not in self._free_providers:
                recorded = True
                await self._usage_log.settle(call.record(outcome, usage))
        except ServiceError as error:
            outcome, reason = Outcome.FAILED, error.reason
            raise
        finally:
            if not recorded:
                self._usage_log.submit(call.record(outcome, usage, reason))
        return Embedded(vectors.values, route.model, usage)

    async def _attempts(
        self, route: Route[EmbeddingProvider], texts: Sequence[str], dimensions: int
    ) -> Vectors:
        for attempt in count(1):
            try:
                return await route.provider.embed(
                    route.model,
                    texts,
                    dimensions=dimensions,
                    seconds_left=remaining_seconds(),
                )
            except ServiceError as error:
                delay = delay_before_retry(error, attempt, remaining_seconds())
                if delay is None:
                    raise
            await self._sleep(delay)
        raise AssertionError("count never ends")


class _Call:
    """The bookkeeping of one call."""

    def __init__(
        self, route: Route[EmbeddingProvider], attribution: Attribution, clock: Clock
    ) -> None:
        self._route = route
        self._attribution = attribution
        self._clock = clock
        self._began = clock.monotonic()
        self._caller = principal()
        self._correlation_id = current().correlation_id

    def record(self, outcome: Outcome, usage: TokenUsage, reason: str = "") -> UsageRecord:
        seconds = self._clock.monotonic() - self._began
        return UsageRecord(
            tenant_id=self._caller.tenant_id,
            user_id=self._caller.subject if self._caller.kind == "user" else "",
            correlation_id=self._correlation_id,
            attribution=self._attribution,
            operation=Operation.EMBED,
            outcome=outcome,
            reason=reason,
            model=self._route.model,
            deployment=self._route.deployment.name,
            provider=self._route.deployment.provider,
            usage=usage,
            first_token_milliseconds=0,
            duration_milliseconds=max(1, round(seconds * 1000)),
        )


def _settled(vectors: Vectors, texts: Sequence[str], prices: Prices) -> TokenUsage:
    usage = settle(
        ReportedUsage(vectors.tokens, 0) if vectors.tokens else None,
        estimate_prompt=lambda: sum(map(count_text, texts)),
        estimate_completion=lambda: 0,
    )
    return priced(usage, prices)
