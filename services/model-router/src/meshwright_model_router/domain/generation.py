"""One generation: choose the deployment, stream, repeat what may be repeated, count, record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from meshwright_common.clock import Clock
from meshwright_common.errors import ServiceError
from meshwright_model_router.domain.access import ModelAccess
from meshwright_model_router.domain.attempts import AttemptRules, Attempts
from meshwright_model_router.domain.budgets import Budgets, Estimate
from meshwright_model_router.domain.call import EndAnswer, ModelCall
from meshwright_model_router.domain.choosing import Candidate, Needs
from meshwright_model_router.domain.conversation import OutputFormat, Prompt
from meshwright_model_router.domain.hedging import Failed, race
from meshwright_model_router.domain.output import (
    FinishReason,
    GenerationOutput,
    ProviderOutput,
    Restarted,
    Started,
)
from meshwright_model_router.domain.ports import ChatProvider, UsageLog
from meshwright_model_router.domain.requests import Purpose, reserve
from meshwright_model_router.domain.streams import StreamRequest
from meshwright_model_router.domain.tokens import count_prompt
from meshwright_model_router.domain.usage import Attribution, Operation


class Generation:
    """The use case behind Generate."""

    def __init__(
        self,
        access: ModelAccess,
        rules: AttemptRules,
        budgets: Budgets,
        usage_log: UsageLog,
        clock: Clock,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._access = access
        self._rules = rules
        self._budgets = budgets
        self._usage_log = usage_log
        self._clock = clock
        self._sleep = sleep

    async def generate(self, call: ModelCall) -> AsyncGenerator[GenerationOutput, None]:
        """Yield Started, pieces, Finished; Finished comes when the usage is durable.

        A failure before the first piece is repeated, at another deployment if there is one. One
        after it ends the answer, or, if the caller accepts that, voids it: Restarted.
        However the call ends - also closed or cancelled half-way - each request that was made
        leaves one usage record with what it produced, and its connection is closed.
        Raises: as `ModelAccess.grant`, `Budgets.reserve`, `refusals.refusal`; Unavailable when
        usage cannot be recorded, before anything else; the PROVIDER_* errors.
        """
        grant = await self._access.grant(call.model, Operation.GENERATE)
        self._usage_log.admit()
        needs = needs_of(call.prompt, call.attribution)
        attempts = Attempts(self._rules, grant, needs)
        course = _Course(call, attempts, Purpose.of(Operation.GENERATE, call.attribution), needs)
        request = await self._begin(course, await attempts.first())
        try:
            while True:
                try:
                    request, output = await self._first(course, request)
                    yield course.opening(request)
                    piece = request.take(output)
                    if piece is not None:
                        yield piece
                        async for output in request.rest:
                            piece = request.take(output)
                            if piece is None:
                                break
                            yield piece
                    break
                except EndAnswer:
                    request.cut(FinishReason.CONTENT_FILTER)
                    break
                except (Failed, ServiceError) as error:
                    request = await self._after(course, *_failed(request, error))
            yield await request.end(self._usage_log)
        finally:
            if not request.ended:
                request.abandon(self._usage_log)
            await request.close()

    async def _begin(self, course: _Course, candidate: Candidate[ChatProvider]) -> StreamRequest:
        """Return a request for which what it may use is held. Raises: as `Budgets.reserve`."""
        attempts, needs = course.attempts, course.needs
        estimate = Estimate(needs.prompt_tokens, needs.output_tokens)
        candidate, reservation = await reserve(
            self._budgets, attempts, candidate, course.purpose, estimate
        )
        return StreamRequest(
            candidate,
            course.purpose,
            reservation,
            attempts.number,
            self._clock,
            course.call.prompt,
        )

    async def _first(
        self, course: _Course, request: StreamRequest
    ) -> tuple[StreamRequest, ProviderOutput]:
        """Return the request that said something first, with what it said.

        Raises: its error; Failed when several were asked and all failed.
        """
        first = request
        hedge_after = course.attempts.policy.hedge_after_seconds
        if hedge_after is None or course.is_hedged:
            return request, await request.first()
        course.is_hedged = True

        async def second() -> StreamRequest | None:
            candidate = course.attempts.hedge(first.candidate)
            try:
                return None if candidate is None else await self._begin(course, candidate)
            except ServiceError:
                return None  # the first one is still there

        def lose(request: StreamRequest, error: ServiceError | None, *, repeated: bool) -> None:
            if error is None:
                request.abandon(self._usage_log, repeated=repeated)
            else:
                request.failed(error, course.attempts)
                request.submit_failure(error, self._usage_log, repeated=repeated)

        return await race(first, hedge_after, second, lose)

    async def _after(
        self, course: _Course, request: StreamRequest, error: ServiceError
    ) -> StreamRequest:
        """Return the request that follows a failed one. Raises: `error` when none does."""
        request.failed(error, course.attempts)
        if request.has_pieces:
            course.broken = error
        following = None
        if course.call.accepts_restart or course.broken is None:
            following = course.attempts.after(request.candidate, error)
        request.submit_failure(error, self._usage_log, repeated=following is not None)
        await request.close()
        if following is None:
            raise error
        if following.delay_seconds:
            await self._sleep(following.delay_seconds)
        return await self._begin(course, following.candidate)


@dataclass(slots=True)
class _Course:
    """What a call keeps while it goes from request to request.

    `broken`: why the pieces that the caller has are void.
    """

    call: ModelCall
    attempts: Attempts[ChatProvider]
    purpose: Purpose
    needs: Needs
    is_hedged: bool = False
    broken: ServiceError | None = None

    def opening(self, request: StreamRequest) -> Started | Restarted:
        """Return what is told before the output of a request."""
        broken, self.broken = self.broken, None
        if broken is None:
            return Started(request.model, request.deployment)
        return Restarted(broken.reason, request.model, request.deployment)


def needs_of(prompt: Prompt, attribution: Attribution) -> Needs:
    """Return what a prompt needs of a deployment. Effort in reasoning is a wish, not a need."""
    capabilities: set[str] = set()
    if prompt.tools:
        capabilities.add("tools")
    if any(message.images for message in prompt.messages):
        capabilities.add("vision")
    if prompt.output_format is OutputFormat.JSON_SCHEMA:
        capabilities.add("json_schema")
    return Needs(
        frozenset(capabilities),
        count_prompt(prompt.messages, prompt.tools),
        prompt.options.max_output_tokens or 0,
        attribution.session_id,
    )


def _failed(
    request: StreamRequest, error: Failed | ServiceError
) -> tuple[StreamRequest, ServiceError]:
    if isinstance(error, Failed):
        return error.request, error.error
    return request, error
