"""The way out to webhooks: one guarded POST, no redirects, an answer that nobody reads."""

from dataclasses import replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from yarl import URL

from meshwright_common import kept_trace
from meshwright_common.clock import Clock
from meshwright_common.context import bind, current
from meshwright_common.egress import EgressClient
from meshwright_common.errors import ServiceError, invalid
from meshwright_common.telemetry import tracing
from meshwright_common.telemetry.spans import NO_SPAN, Kind
from meshwright_session.domain.webhook_models import Answer, Attempt

MAX_ERROR_CHARACTERS: Final = 300


class WebhookPost:
    """`Outbound` and `Addresses` over the egress client. `plain`: http is allowed, too."""

    def __init__(
        self, egress: EgressClient, clock: Clock, *, timeout_seconds: float, plain: bool
    ) -> None:
        self._egress = egress
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._plain = plain

    def check(self, url: str) -> None:
        self._egress.check(url)
        if URL(url).scheme != "https" and not self._plain:
            raise invalid("webhook.url", "must be an https address")

    async def post(self, attempt: Attempt, headers: dict[str, str]) -> Answer:
        span = NO_SPAN
        traceparent, tracestate = kept_trace.parted(attempt.trace)
        if traceparent:
            span = tracing.begin_trace("POST webhook", Kind.CLIENT, traceparent)
        # The address is the tenant's secret: it stands on no span.
        span.set("meshwright.webhook_id", attempt.webhook_id)
        span.set("meshwright.attempt", attempt.number)
        here = replace(
            current(), traceparent=span.traceparent or traceparent, tracestate=tracestate
        )
        with bind(here):
            answer = await self._post(attempt, headers)
        span.set("http.response.status_code", answer.status)
        if answer.error:
            span.fail(str(answer.status or "unreached"))
        span.end()
        return answer

    async def _post(self, attempt: Attempt, headers: dict[str, str]) -> Answer:
        try:
            self.check(attempt.url)
            receipt = await self._egress.post_once(
                attempt.url,
                headers=headers,
                body=attempt.body,
                timeout_seconds=self._timeout_seconds,
            )
        except ServiceError as error:
            return Answer(0, f"{error.message} ({error.reason})"[:MAX_ERROR_CHARACTERS])
        if 200 <= receipt.status < 300:
            return Answer(receipt.status)
        why = "redirects are not followed" if 300 <= receipt.status < 400 else "was refused"
        return Answer(
            receipt.status,
            f"answered {receipt.status}: {why}",
            self._retry_after(receipt.headers.get("retry-after", "")),
        )

    def _retry_after(self, value: str) -> float | None:
        """Return the seconds of a header in either form of RFC 9110, 10.2.3."""
        if value.isdecimal() and value.isascii():
            return float(value[:9])
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, (moment - self._clock.now()).total_seconds())
