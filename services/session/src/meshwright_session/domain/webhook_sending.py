"""Sending: one attempt at a time, and what follows from its answer."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from meshwright_common.clock import Clock
from meshwright_session.domain.webhook_models import (
    Answer,
    Attempt,
    Verdict,
    message_id_of,
    signatures,
)

STATUS_GONE: Final = 410
JITTER: Final = 0.2
"""Attempts come up to so much of their delay later, so that they do not come together."""
MAX_RETRY_AFTER_SECONDS: Final = 86_400.0
DEFAULT_RETRIES: Final = (
    *(5.0, 300.0, 1800.0, 7200.0, 18_000.0),
    *(36_000.0, 50_400.0, 72_000.0, 86_400.0),
)
"""Seconds before the second and each further attempt. Source: the specification of Standard
Webhooks, "Deliverability and reliability"."""


@dataclass(frozen=True, slots=True)
class Due:
    """The name of a delivery that is due."""

    tenant_id: str
    webhook_id: str
    delivery_id: str


class Outbound(Protocol):
    """The way out."""

    async def post(self, attempt: Attempt, headers: dict[str, str]) -> Answer:
        """Send an attempt's body to its address; never raises for what the other side does."""
        ...


class SendingQueue(Protocol):
    """The deliveries to be tried."""

    async def due(self, most: int, per_webhook: int) -> Sequence[Due]:
        """Return deliveries that are due, of each webhook the oldest few."""
        ...

    async def claim(self, due: Due) -> Attempt | None:
        """Begin an attempt; None when somebody else did, or there is nothing to try any more."""
        ...

    async def settle(
        self, attempt: Attempt, answer: Answer, verdict: Verdict, duration_seconds: float
    ) -> str:
        """Write what became of an attempt, unless a later one was begun. Returns why the webhook
        was disabled by it; empty when it was not.
        """
        ...


class Sending:
    """Tries deliveries. `retries`: seconds before each further attempt; after the last it fails."""

    def __init__(
        self,
        queue: SendingQueue,
        outbound: Outbound,
        clock: Clock,
        *,
        retries: Sequence[float],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._queue = queue
        self._outbound = outbound
        self._clock = clock
        self._retries = retries
        self._draw = draw

    async def send(self, due: Due) -> Answer | None:
        """Try a delivery once; return what came back, None when there was nothing to try."""
        attempt = await self._queue.claim(due)
        if attempt is None:
            return None
        timestamp = int(self._clock.now().timestamp())
        began = self._clock.monotonic()
        answer = await self._outbound.post(
            attempt,
            {
                "content-type": "application/json",
                "user-agent": "Meshwright-Webhooks",
                "webhook-id": message_id_of(attempt.message_id),
                "webhook-timestamp": str(timestamp),
                "webhook-signature": signatures(attempt, timestamp),
            },
        )
        verdict = judge(answer, attempt.number, self._retries, self._draw())
        await self._queue.settle(attempt, answer, verdict, self._clock.monotonic() - began)
        return answer


def judge(answer: Answer, number: int, retries: Sequence[float], draw: float) -> Verdict:
    """Return what follows from the answer to attempt `number`; `draw` from 0 to 1 is the jitter."""
    if 200 <= answer.status < 300:
        return Verdict(delivered=True)
    if answer.status == STATUS_GONE:
        return Verdict(delivered=False, disables=True)
    if number > len(retries):
        return Verdict(delivered=False)
    delay = retries[number - 1] * (1 + JITTER * draw)
    wanted = min(answer.retry_after_seconds or 0.0, MAX_RETRY_AFTER_SECONDS)
    return Verdict(delivered=False, retry_in_seconds=max(delay, wanted))
