"""One request of a generation: its stream, and what it produced."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Final

from meshwright_common.clock import Clock
from meshwright_common.context import remaining_seconds
from meshwright_common.errors import ServiceError
from meshwright_model_router.domain.budgets import Reservation
from meshwright_model_router.domain.choosing import Candidate
from meshwright_model_router.domain.conversation import Prompt
from meshwright_model_router.domain.output import (
    Ended,
    Finished,
    FinishReason,
    Opened,
    Piece,
    ProviderOutput,
    ReportedUsage,
    TokenUsage,
)
from meshwright_model_router.domain.ports import ChatProvider, UsageLog
from meshwright_model_router.domain.requests import ProviderRequest, Purpose
from meshwright_model_router.domain.tally import Tally
from meshwright_model_router.domain.tokens import count_prompt
from meshwright_model_router.domain.usage import MISCOUNT, Outcome, is_told, settle

TOLERANCE: Final = 4
"""Our count may be so many times the provider's before an answer is cut for its length: a provider
that keeps to the bound it was given is not cut because we count otherwise."""


class StreamRequest(ProviderRequest[ChatProvider]):
    """A request whose answer is streamed. `first` comes before `rest`, `close` after both."""

    def __init__(
        self,
        candidate: Candidate[ChatProvider],
        purpose: Purpose,
        reservation: Reservation,
        number: int,
        clock: Clock,
        prompt: Prompt,
    ) -> None:
        super().__init__(candidate, purpose, reservation, number, clock)
        self.model = candidate.route.model
        self._prompt = prompt
        self._tally = Tally()
        self._reported: ReportedUsage | None = None
        self._is_told = False
        self._ended: Ended | None = None
        self._cut: FinishReason | None = None
        self.has_pieces = False
        self._bound = _bound(prompt, reservation)
        self._stream = candidate.route.provider.stream(
            candidate.route.model,
            prompt if not self._bound else _bounded(prompt, self._bound),
            seconds_left=remaining_seconds(),
        )

    @property
    def deployment(self) -> str:
        """Name of the deployment that was asked."""
        return self.candidate.deployment.name

    async def first(self) -> ProviderOutput:
        """Return the first output, which is what a caller waits for. Raises: the provider's."""
        async for output in self._stream:
            if type(output) is not Opened:
                self.first_output_at = self._clock.monotonic()
                self.spoke()
                return output
            if output.model:
                self.model = output.model
            self._reported = output.usage
        raise AssertionError("a provider ends with Ended")

    @property
    def rest(self) -> AsyncGenerator[ProviderOutput, None]:
        """What follows the first output."""
        return self._stream

    def take(self, output: ProviderOutput) -> Piece | None:
        """Return the piece to pass on; None: the answer ends here, by itself or at its bound.

        Raises: AnswerTooLong.
        """
        if type(output) is Piece:
            self._tally.add(output)
            self._is_told = output.usage is not None
            if output.usage is not None:
                self._reported = output.usage
            if self._bound and self._is_beyond(output):
                self.cut(FinishReason.LENGTH)
                return None
            self.has_pieces = True
            return output
        if isinstance(output, Ended):
            self._ended = output
        return None

    def _is_beyond(self, piece: Piece) -> bool:
        """Return whether the answer is longer than the provider was asked for."""
        told = 0 if piece.usage is None else piece.usage.completion_tokens
        tolerance = MISCOUNT if told > 0 else TOLERANCE
        return told > self._bound or self._tally.is_beyond(tolerance * self._bound)

    def cut(self, reason: FinishReason) -> None:
        """End the answer here, whatever the provider has to say."""
        self._cut = reason

    async def close(self) -> None:
        """Close the provider's connection, if the answer did not come to its end."""
        await self._stream.aclose()

    # --- ends -----------------------------------------------------------------------------------

    async def end(self, usage_log: UsageLog) -> Finished:
        """Record an answer that ended or was cut, and return its end when that is durable."""
        await self.close()
        if self._cut is not None:
            usage, reason = self._used(), self._cut
        else:
            usage, reason = self._complete()
        self.succeeded()
        record = self.record(Outcome.COMPLETED, usage)
        await usage_log.settle(record, self.reservation)
        return Finished(self._tally.finish_reason(reason), record.usage, self._tally.tool_calls)

    def _complete(self) -> tuple[TokenUsage, FinishReason]:
        ended = self._ended
        if ended is None:
            raise AssertionError("a provider ends with Ended")
        usage = settle(
            ended.usage,
            estimate_prompt=self._count_prompt,
            estimate_completion=self._own_count,
            completion_bound=self._bound,
        )
        return usage, ended.finish_reason

    def submit_failure(self, error: ServiceError, usage_log: UsageLog, *, repeated: bool) -> None:
        """Record a failure. `repeated`: another request follows it."""
        # Refused, or never answered: nothing was consumed, unless the provider said otherwise.
        silent = self.first_output_at is None and self._reported is None
        usage = TokenUsage() if silent else self._used()
        record = self.record(Outcome.FAILED, usage, reason=error.reason, repeated=repeated)
        usage_log.submit(record, self.reservation)

    def abandon(self, usage_log: UsageLog, *, repeated: bool = False) -> None:
        """Record that nobody waits for the rest. A caller that left early, or chose another answer,
        still made the provider read the prompt."""
        self.left()
        record = self.record(Outcome.CANCELLED, self._used(), repeated=repeated)
        usage_log.submit(record, self.reservation)

    def _used(self) -> TokenUsage:
        """Return what an answer without its end took: what the provider told with the last piece,
        else the larger of its last word about its output and our own count of it."""
        reported, own = self._reported, self._own_count()
        if self._is_told and reported is not None and is_told(reported, own):
            return settle(
                reported, estimate_prompt=self._count_prompt, estimate_completion=lambda: own
            )
        if reported is not None and reported.completion_tokens < own:
            reported = replace(reported, completion_tokens=0)
        return settle(reported, estimate_prompt=self._count_prompt, estimate_completion=lambda: own)

    def _own_count(self) -> int:
        """Return our count of the output, within what the provider was asked for and what is held:
        where it counts more, it counts otherwise."""
        own = self._tally.tokens()
        return min(own, self._bound) if self._bound else own

    def _count_prompt(self) -> int:
        return count_prompt(self._prompt.messages, self._prompt.tools)


def _bound(prompt: Prompt, reservation: Reservation) -> int:
    """Return how many tokens the provider is asked for at most; 0: as many as it likes."""
    asked = prompt.options.max_output_tokens or 0
    held = reservation.output_tokens
    return min(asked, held) if asked and held else asked or held


def _bounded(prompt: Prompt, tokens: int) -> Prompt:
    if prompt.options.max_output_tokens == tokens:
        return prompt
    return replace(prompt, options=replace(prompt.options, max_output_tokens=tokens))
