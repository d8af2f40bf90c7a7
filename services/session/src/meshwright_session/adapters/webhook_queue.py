"""The queue of messages for webhooks: filled with the events that they tell, worked off by lease.

An attempt is fenced by its number: whoever begins a later one owns the delivery. `_AGAIN` begins
anew from 1, so a settlement also checks that the lease is the one it was given.
"""

from collections.abc import Sequence
from typing import Final

from meshwright_common.context import bind, service_context
from meshwright_common.encryption import KeyRing
from meshwright_common.events import audit
from meshwright_common.events.notification import Notice, tell
from meshwright_common.ids import new_id
from meshwright_common.resilience.failpoints import failpoint
from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import unit_of_work, unscoped
from meshwright_session.adapters import webhook_rows
from meshwright_session.adapters.postgres_webhooks import GIVE_UP, SOURCE
from meshwright_session.domain.notification_models import NewNotification
from meshwright_session.domain.webhook_models import (
    FAILING,
    GONE,
    Answer,
    Attempt,
    Verdict,
    wants,
)
from meshwright_session.domain.webhook_sending import Due
from meshwright_session.domain.webhooks import message_body


class PostgresWebhookIntake:
    """Adds a tenant's notifications as messages, inside the transaction that handles them."""

    def __init__(self, connection: Connection, ring: KeyRing) -> None:
        self._connection = connection
        self._ring = ring

    async def add_all(self, notifications: Sequence[NewNotification]) -> None:
        """Add a message for each webhook that wants to be told. Idempotent by their ids."""
        if not notifications:
            return
        tenant_id = notifications[0].tenant_id
        webhooks = await self._connection.fetch(_LISTENING, tenant_id)
        wanted = [
            (row["webhook_id"], one)
            for one in notifications
            for row in webhooks
            if wants(tuple(row["event_types"]), one.kind)
        ]
        if not wanted:
            return
        keys = await self._ring.keys_of(tenant_id)
        rows = []
        for webhook_id, one in wanted:
            delivery_id = new_id()
            body = message_body(one.kind, one.time, _data(one))
            rows.append(
                (
                    *(delivery_id, webhook_id, one.notification_id, one.user_id, one.kind),
                    webhook_rows.sealed_body(keys, delivery_id, body),
                    one.trace,
                )
            )
        await self._connection.execute(_ADD, tenant_id, *map(list, zip(*rows, strict=True)))


def _data(one: NewNotification) -> dict[str, object]:
    return {
        "notification_id": one.notification_id,
        "user_id": one.user_id,
        "title": one.title,
        "resource": one.resource,
        **one.details,
    }


class PostgresSendingQueue:
    """`SendingQueue`. `lease_seconds`: after this an attempt of which nothing was heard is lost.
    `disable_after_days`: a webhook that failed for so long is disabled.
    """

    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        *,
        lease_seconds: float,
        disable_after_days: float,
    ) -> None:
        self._database = database
        self._ring = ring
        self._lease_seconds = lease_seconds
        self._disable_after_days = disable_after_days

    async def due(self, most: int, per_webhook: int) -> Sequence[Due]:
        async with unscoped(self._database) as connection:
            rows = await connection.fetch(
                "SELECT * FROM due_webhook_deliveries($1, $2)", most, per_webhook
            )
        return [Due(row["tenant_id"], row["webhook_id"], row["delivery_id"]) for row in rows]

    async def claim(self, due: Due) -> Attempt | None:
        keys = await self._ring.keys_of(due.tenant_id)
        async with unit_of_work(self._database, due.tenant_id) as connection:
            row = await connection.fetchrow(
                _CLAIM, due.tenant_id, due.delivery_id, self._lease_seconds
            )
        if row is None:
            return None
        webhook_id = row["webhook_id"]
        sealed = [("secret", row["secret"]), ("previous_secret", row["previous_secret"])]
        return Attempt(
            tenant_id=due.tenant_id,
            webhook_id=webhook_id,
            delivery_id=due.delivery_id,
            message_id=row["message_id"],
            number=row["attempts"],
            url=webhook_rows.opened(keys, "url", webhook_id, row["url"]),
            secrets=tuple(
                webhook_rows.opened(keys, column, webhook_id, value)
                for column, value in sealed
                if value is not None
            ),
            body=webhook_rows.opened_body(keys, due.delivery_id, row["body"]),
            trace=row["traceparent"],
        )

    async def settle(
        self, attempt: Attempt, answer: Answer, verdict: Verdict, duration_seconds: float
    ) -> str:
        failpoint("webhook-answered")
        async with unit_of_work(self._database, attempt.tenant_id) as connection:
            settled = await connection.fetchval(
                _SETTLE,
                attempt.tenant_id,
                attempt.delivery_id,
                attempt.number,
                "delivered" if verdict.delivered else "failed",
                verdict.retry_in_seconds,
                answer.status,
                answer.error,
                min(round(duration_seconds * 1000), 2**31 - 1),
            )
            if not settled:
                return ""
            failed_long = await connection.fetchval(
                _MARK,
                attempt.tenant_id,
                attempt.webhook_id,
                verdict.delivered,
                self._disable_after_days,
            )
            reason = GONE if verdict.disables else FAILING if failed_long else ""
            if reason and await connection.fetchval(
                _DISABLE, attempt.tenant_id, attempt.webhook_id, reason
            ):
                await connection.execute(GIVE_UP, attempt.tenant_id, attempt.webhook_id)
                await _tell(connection, attempt, reason)
                return reason
        return ""


async def _tell(connection: Connection, attempt: Attempt, reason: str) -> None:
    resource = f"webhook/{attempt.webhook_id}"
    details = {"webhook_id": attempt.webhook_id, "reason": reason}
    with bind(service_context(SOURCE, attempt.tenant_id, (), timeout_seconds=None)):
        await audit.record(
            connection,
            source=SOURCE,
            action="webhook.disabled",
            resource=resource,
            details=details,
        )
        await tell(
            connection,
            Notice(
                user_id="",
                kind="webhook.disabled",
                title="A webhook was disabled: its address takes no messages any more.",
                resource=resource,
                details=details,
            ),
            source=SOURCE,
            tenant_id=attempt.tenant_id,
        )


_LISTENING: Final = """
SELECT webhook_id, event_types FROM webhooks WHERE tenant_id = $1 AND NOT disabled
"""

# One that is removed meanwhile is passed over, not found missing by the foreign key.
_ADD: Final = """
WITH listening AS (
    SELECT webhook_id FROM webhooks
     WHERE tenant_id = $1 AND webhook_id = ANY ($3::uuid[]) FOR KEY SHARE
)
INSERT INTO webhook_deliveries (tenant_id, delivery_id, webhook_id, message_id, user_id, event_type,
                                body, traceparent)
SELECT $1, told.delivery_id, told.webhook_id, told.message_id, told.user_id, told.event_type,
       told.body, told.traceparent
  FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::bytea[], $8::text[])
           AS told (delivery_id, webhook_id, message_id, user_id, event_type, body, traceparent)
  JOIN listening USING (webhook_id)
ON CONFLICT (tenant_id, webhook_id, message_id) DO NOTHING
"""

_CLAIM: Final = """
UPDATE webhook_deliveries AS d
   SET attempts = d.attempts + 1,
       next_attempt_at = clock_timestamp() + make_interval(secs => $3)
  FROM webhooks AS w
 WHERE d.tenant_id = $1 AND d.delivery_id = $2 AND d.state = 'pending'
   AND d.next_attempt_at <= clock_timestamp()
   AND w.tenant_id = $1 AND w.webhook_id = d.webhook_id AND NOT w.disabled
RETURNING d.webhook_id, d.message_id, d.attempts, d.body, d.traceparent, w.url, w.secret,
          CASE WHEN w.previous_expires_at > clock_timestamp() THEN w.previous_secret END
              AS previous_secret
"""

# Null seconds: there is no further attempt.
_SETTLE: Final = """
UPDATE webhook_deliveries
   SET state = CASE WHEN $5::float8 IS NULL THEN $4 ELSE 'pending' END,
       next_attempt_at = clock_timestamp() + make_interval(secs => $5::float8),
       end_time = CASE WHEN $5::float8 IS NULL THEN clock_timestamp() END,
       last_status = $6, last_error = $7, last_duration_milliseconds = $8
 WHERE tenant_id = $1 AND delivery_id = $2 AND attempts = $3 AND state = 'pending'
   AND next_attempt_at > clock_timestamp()
RETURNING true
"""

_MARK: Final = """
UPDATE webhooks
   SET failing_since = CASE WHEN $3 THEN NULL
                            ELSE coalesce(failing_since, clock_timestamp()) END
 WHERE tenant_id = $1 AND webhook_id = $2
RETURNING failing_since < clock_timestamp() - make_interval(secs => $4 * 86400)
"""

_DISABLE: Final = """
UPDATE webhooks SET disabled = true, disabled_reason = $3, update_time = clock_timestamp()
 WHERE tenant_id = $1 AND webhook_id = $2 AND NOT disabled
RETURNING true
"""
