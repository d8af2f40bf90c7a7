"""One generation: choose the deployment, stream, repeat what may be repeated, count, record."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from itertools import count

from meshwright_common.clock import Clock
from meshwright_common.context import current, principal, remaining_seconds
from meshwright_common.errors import ServiceError
from meshwright_model_router.domain.access import ModelAccess
from meshwright_model_router.domain.call import ModelCall
from meshwright_model_router.domain.catalogue import Route
from meshwright_model_router.domain.conversation import Prompt
from meshwright_model_router.domain.fallback import delay_before_retry
from meshwright_model_router.domain.output import (
    Ended,
    Finished,
    GenerationOutput,
    Opened,
    Piece,
    ProviderOutput,
    Started,
    TokenUsage,
)
from meshwright_model_router.domain.ports import ChatProvider, UsageLog
from meshwright_model_router.domain.tally import Tally
from meshwright_model_router.domain.tokens import count_prompt
from meshwright_model_router.domain.usage import (
    Attribution,
    Operation,
    Outcome,
    UsageRecord,
    priced,
    settle,
)


class Generation:
    """The use case behind Generate."""

    def __init__(
        self,
        access: ModelAccess,
        usage_log: UsageLog,
        clock: Clock,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._access = access
        self._usage_log = usage_log
        self._clock = clock
        self._sleep = sleep

    async def generate(self, call: ModelCall) -> AsyncGenerator[GenerationOutput, None]:
        """Yield Started, pieces, Finished; Finished comes when the usage is durable.

        However the call ends - also closed or cancelled half-way - it leaves one usage record with
        what was produced until then, and the provider's connection is closed.
        Raises: as `ModelAccess.chat` and, when usage cannot be recorded, Unavailable before
        anything else; the PROVIDER_* errors.
        """
        prompt = call.prompt
        route = await self._access.chat(call.model)
        self._usage_log.admit()
        books = _Call(route, prompt, call.attribution, self._clock)
        outcome, reason = Outcome.CANCELLED, ""
        recorded = False
        try:
            async with aclosing(self._attempts(route, prompt)) as outputs:
                async for output in outputs:
                    if isinstance(output, Piece):
                        books.add(output)
                        yield output
                    elif isinstance(output, Opened):
                        yield Started(output.model or route.model, route.deployment.name)
                    else:
                        record = books.record(Outcome.COMPLETED, output)
                        recorded = True
                        await self._usage_log.settle(record)
                        yield books.finished(output, record.usage)
        except ServiceError as error:
            outcome, reason = Outcome.FAILED, error.reason
            raise
        finally:
            if not recorded:
                self._usage_log.submit(books.record(outcome, reason=reason))

    async def _attempts(
        self, route: Route[ChatProvider], prompt: Prompt
    ) -> AsyncGenerator[ProviderOutput, None]:
        """Yield what the provider says; a failure before its first piece is repeated."""
        for attempt in count(1):
            forwarded = False
            stream = route.provider.stream(route.model, prompt, seconds_left=remaining_seconds())
            try:
                async with aclosing(stream):
                    opened = await anext(stream)
                    async for output in stream:
                        if not forwarded:
                            forwarded = True
                            yield opened
                        yield output
                return
            except ServiceError as error:
                delay = (
                    None if forwarded else delay_before_retry(error, attempt, remaining_seconds())
                )
                if delay is None:
                    raise
            await self._sleep(delay)


class _Call:
    """The bookkeeping of one generation."""

    def __init__(
        self, route: Route[ChatProvider], prompt: Prompt, attribution: Attribution, clock: Clock
    ) -> None:
        self._route = route
        self._prompt = prompt
        self._attribution = attribution
        self._clock = clock
        self._tally = Tally()
        self._began = clock.monotonic()
        self._began_at = clock.now()
        self._first_piece: float | None = None
        # Kept now: a generator may be closed in another context than it was started in.
        self._caller = principal()
        self._correlation_id = current().correlation_id

    def add(self, piece: Piece) -> None:
        if self._first_piece is None:
            self._first_piece = self._clock.monotonic()
        self._tally.add(piece)

    def finished(self, ended: Ended, usage: TokenUsage) -> Finished:
        reason = self._tally.finish_reason(ended.finish_reason)
        return Finished(reason, usage, self._tally.tool_calls)

    def record(
        self, outcome: Outcome, ended: Ended | None = None, *, reason: str = ""
    ) -> UsageRecord:
        deployment = self._route.deployment
        if outcome is Outcome.FAILED and self._first_piece is None:
            usage = TokenUsage()  # refused, or never answered: nothing was consumed
        else:
            # A caller that left early still made the provider read the prompt.
            usage = settle(
                ended.usage if ended else None,
                estimate_prompt=lambda: count_prompt(self._prompt.messages, self._prompt.tools),
                estimate_completion=self._tally.tokens,
            )
        return UsageRecord(
            tenant_id=self._caller.tenant_id,
            user_id=self._caller.subject if self._caller.kind == "user" else "",
            correlation_id=self._correlation_id,
            attribution=self._attribution,
            operation=Operation.GENERATE,
            outcome=outcome,
            reason=reason,
            model=self._route.model,
            deployment=deployment.name,
            provider=deployment.provider,
            usage=priced(usage, deployment.prices.at(self._began_at)),
            first_token_milliseconds=self._milliseconds(self._first_piece),
            duration_milliseconds=self._milliseconds(self._clock.monotonic()),
        )

    def _milliseconds(self, until: float | None) -> int:
        return 0 if until is None else max(1, round((until - self._began) * 1000))
