"""One call that is answered in one piece: embeddings, ranking, moderation.

The same course as a generation's: choose, hold, ask, repeat what may be repeated, record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from meshwright_common.clock import Clock
from meshwright_common.context import remaining_seconds
from meshwright_common.errors import ServiceError
from meshwright_model_router.domain.access import Grant
from meshwright_model_router.domain.attempts import AttemptRules, Attempts
from meshwright_model_router.domain.budgets import Budgets, Estimate
from meshwright_model_router.domain.catalogue import Route
from meshwright_model_router.domain.choosing import Needs
from meshwright_model_router.domain.output import TokenUsage
from meshwright_model_router.domain.ports import UsageLog
from meshwright_model_router.domain.requests import ProviderRequest, Purpose, reserve
from meshwright_model_router.domain.usage import Outcome

T = TypeVar("T")
P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Answered(Generic[T, P]):
    """The answer, who gave it, and what it took."""

    value: T
    route: Route[P]
    usage: TokenUsage


class UnaryCalls:
    """Runs calls. What `free_providers` do costs nothing, because it is computed here: their usage
    is recorded without waiting for it, so that a search does not wait for a write.
    """

    def __init__(
        self,
        rules: AttemptRules,
        budgets: Budgets,
        usage_log: UsageLog,
        clock: Clock,
        *,
        free_providers: frozenset[str] = frozenset(),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rules = rules
        self._budgets = budgets
        self._usage_log = usage_log
        self._clock = clock
        self._free_providers = free_providers
        self._sleep = sleep

    async def run(
        self,
        grant: Grant[P],
        purpose: Purpose,
        prompt_tokens: int,
        ask: Callable[[Route[P], float | None], Awaitable[T]],
        usage_of: Callable[[T], TokenUsage],
    ) -> Answered[T, P]:
        """Return what `ask` answers for a route and the seconds that are left.

        `prompt_tokens` is our count of the input; `usage_of` says what an answer took, without its
        price. Each request leaves one usage record, however it ends.
        Raises: as `Budgets.reserve`, `refusals.refusal`; Unavailable when usage cannot be recorded;
        the PROVIDER_* errors.
        """
        self._usage_log.admit()
        attempts = Attempts(self._rules, grant, Needs(prompt_tokens=prompt_tokens))
        estimate = Estimate(prompt_tokens, no_output=True)
        candidate = await attempts.first()
        while True:
            candidate, reservation = await reserve(
                self._budgets, attempts, candidate, purpose, estimate
            )
            request = ProviderRequest(candidate, purpose, reservation, attempts.number, self._clock)
            try:
                value = await ask(candidate.route, remaining_seconds())
            except ServiceError as error:
                request.failed(error, attempts)
                following = attempts.after(candidate, error)
                self._submit(
                    request,
                    Outcome.FAILED,
                    TokenUsage(),
                    reason=error.reason,
                    repeated=following is not None,
                )
                if following is None:
                    raise
            else:
                request.spoke()
                request.succeeded()
                usage = usage_of(value)
                return await self._answered(request, value, usage)
            finally:
                if not request.ended:
                    request.left()
                    self._submit(
                        request, Outcome.CANCELLED, TokenUsage(prompt_tokens, estimated=True)
                    )
            await self._sleep(following.delay_seconds)
            candidate = following.candidate

    async def _answered(
        self, request: ProviderRequest[P], value: T, usage: TokenUsage
    ) -> Answered[T, P]:
        record = request.record(Outcome.COMPLETED, usage)
        if request.candidate.deployment.provider in self._free_providers:
            self._usage_log.submit(record, request.reservation)
        else:
            await self._usage_log.settle(record, request.reservation)
        return Answered(value, request.candidate.route, record.usage)

    def _submit(
        self, request: ProviderRequest[Any], outcome: Outcome, usage: TokenUsage, **more: Any
    ) -> None:
        self._usage_log.submit(request.record(outcome, usage, **more), request.reservation)
