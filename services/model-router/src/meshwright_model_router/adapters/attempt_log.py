"""Attempts as they are logged beside their reservation: enough to record one whose process died."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import msgspec

from meshwright_model_router.domain.budgets import Attempt, Counted, Hold
from meshwright_model_router.domain.output import TokenUsage
from meshwright_model_router.domain.usage import Attribution, Operation, Outcome, UsageRecord

_EPOCH: Final = date(1970, 1, 1)
LOST: Final = "UNAVAILABLE"
"""Reason of an attempt whose process died."""


class _Logged(msgspec.Struct, array_like=True):
    """An attempt; the order of the fields is what is stored."""

    user_id: str
    correlation_id: str
    task_id: str
    step: int
    attempt: int
    session_id: str
    feature: str
    operation: str
    model: str
    deployment: str
    provider: str
    number: int
    prompt_tokens: int
    output_tokens: int


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Logged)
_head: Final = msgspec.json.Decoder(tuple[int, str, int, int, int])


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt whose lease ran out: what it held, and the record of its loss."""

    hold: Hold
    record: UsageRecord


def encode(attempt: Attempt, prompt_tokens: int, output_tokens: int) -> str:
    """Return an attempt as it is logged."""
    attribution = attempt.attribution
    logged = _Logged(
        attempt.user_id,
        attempt.correlation_id,
        attribution.task_id,
        attribution.step,
        attribution.attempt,
        attribution.session_id,
        attribution.feature,
        attempt.operation.value,
        attempt.model,
        attempt.deployment.name,
        attempt.deployment.provider,
        attempt.number,
        prompt_tokens,
        output_tokens,
    )
    return _encoder.encode(logged).decode()


def decode(tenant_id: str, reservation_id: str, held: bytes) -> Ended:
    """Return what a reservation holds and the record of its attempt as a lost one.

    Raises: ValueError.
    """
    head, _, body = held.partition(b"\n")
    day, _, tokens, micro_usd, at = _head.decode(head)
    logged = _decoder.decode(body)
    hold = Hold(
        reservation_id=reservation_id,
        day=_EPOCH + timedelta(days=day),
        reserved_at_milliseconds=at,
        held=Counted(tokens, micro_usd),
    )
    record = UsageRecord(
        tenant_id=tenant_id,
        user_id=logged.user_id,
        correlation_id=logged.correlation_id,
        attribution=Attribution(
            task_id=logged.task_id,
            step=logged.step,
            attempt=logged.attempt,
            session_id=logged.session_id,
            feature=logged.feature,
        ),
        operation=Operation(logged.operation),
        outcome=Outcome.LOST,
        reason=LOST,
        model=logged.model,
        deployment=logged.deployment,
        provider=logged.provider,
        # The most that it may have used: nobody is charged for it.
        usage=TokenUsage(logged.prompt_tokens, logged.output_tokens, estimated=True),
        first_token_milliseconds=0,
        duration_milliseconds=0,
        number=logged.number,
    )
    return Ended(hold, record)
