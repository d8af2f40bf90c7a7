"""Webhooks in PostgreSQL."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from meshwright_common.encryption import KeyRing, TenantKeys
from meshwright_common.events import audit
from meshwright_common.ids import new_id
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_session.adapters import webhook_rows
from meshwright_session.adapters.webhook_rows import (
    COLUMNS,
    DELIVERY_COLUMNS,
    delivery_from,
    webhook_from,
)
from meshwright_session.domain.acts import Act
from meshwright_session.domain.webhook_models import (
    Delivery,
    DeliveryNotFound,
    DeliveryState,
    TooManyWebhooks,
    Webhook,
    WebhookChange,
    WebhookDisabled,
    WebhookDraft,
    WebhookNotFound,
)

SOURCE: Final = "session"


class PostgresWebhooks:
    """`WebhookStore`. `most`: how many a tenant may have."""

    def __init__(self, database: Database, ring: KeyRing, *, most: int) -> None:
        self._database = database
        self._ring = ring
        self._most = most

    async def add(
        self, tenant_id: str, created_by: str, draft: WebhookDraft, secret: str, act: Act
    ) -> Webhook:
        keys = await self._ring.keys_of(tenant_id)
        webhook_id = new_id()
        async with unit_of_work(self._database, tenant_id) as connection:
            if await connection.fetchval(_COUNT, tenant_id) >= self._most:
                raise TooManyWebhooks(limit=str(self._most))
            row = await connection.fetchrow(
                _ADD,
                tenant_id,
                webhook_id,
                webhook_rows.sealed(keys, "url", webhook_id, draft.url),
                draft.description,
                list(draft.event_types),
                webhook_rows.sealed(keys, "secret", webhook_id, secret),
                draft.disabled,
                created_by,
            )
            await _record(connection, Act(act.action, f"webhook/{webhook_id}"))
        return _webhook(row, keys)

    async def find(self, tenant_id: str, webhook_id: str) -> Webhook:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            row = await connection.fetchrow(_FIND, tenant_id, webhook_id)
        return _webhook(row, keys)

    async def list(self, tenant_id: str, before: str | None, limit: int) -> Sequence[Webhook]:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(_LIST, tenant_id, before, limit)
        return [webhook_from(row, keys) for row in rows]

    async def change(
        self, tenant_id: str, webhook_id: str, change: WebhookChange, act: Act
    ) -> Webhook:
        keys = await self._ring.keys_of(tenant_id)
        url = change.url
        async with unit_of_work(self._database, tenant_id) as connection:
            row = await connection.fetchrow(
                _CHANGE,
                tenant_id,
                webhook_id,
                None if url is None else webhook_rows.sealed(keys, "url", webhook_id, url),
                change.description,
                None if change.event_types is None else list(change.event_types),
                change.disabled,
            )
            changed = _webhook(row, keys)
            if changed.disabled:
                await connection.execute(GIVE_UP, tenant_id, webhook_id)
            await _record(connection, act)
        return changed

    async def rotate(
        self, tenant_id: str, webhook_id: str, secret: str, overlap: timedelta, act: Act
    ) -> Webhook:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            before = await connection.fetchval(_SIGNING, tenant_id, webhook_id)
            if before is None:
                raise WebhookNotFound
            old = webhook_rows.opened(keys, "secret", webhook_id, before)
            row = await connection.fetchrow(
                _ROTATE,
                tenant_id,
                webhook_id,
                webhook_rows.sealed(keys, "secret", webhook_id, secret),
                webhook_rows.sealed(keys, "previous_secret", webhook_id, old) if overlap else None,
                overlap,
            )
            await _record(connection, act)
        return _webhook(row, keys)

    async def remove(self, tenant_id: str, webhook_id: str, act: Act) -> None:
        async with unit_of_work(self._database, tenant_id) as connection:
            if await connection.fetchval(_REMOVE, tenant_id, webhook_id):
                await _record(connection, act)

    async def deliveries(
        self,
        tenant_id: str,
        webhook_id: str,
        states: Sequence[DeliveryState],
        before: str | None,
        limit: int,
    ) -> Sequence[Delivery]:
        async with unit_of_work(self._database, tenant_id) as connection:
            if await connection.fetchrow(_FIND, tenant_id, webhook_id) is None:
                raise WebhookNotFound
            rows = await connection.fetch(
                _DELIVERIES, tenant_id, webhook_id, [one.value for one in states], before, limit
            )
        return [delivery_from(row) for row in rows]

    async def again(self, tenant_id: str, delivery_id: str) -> Delivery:
        async with unit_of_work(self._database, tenant_id) as connection:
            disabled = await connection.fetchval(_IS_DISABLED, tenant_id, delivery_id)
            if disabled is None:
                raise DeliveryNotFound
            if disabled:
                raise WebhookDisabled
            row = await connection.fetchrow(_AGAIN, tenant_id, delivery_id)
        if row is None:
            raise DeliveryNotFound
        return delivery_from(row)

    async def enqueue(
        self, tenant_id: str, webhook_id: str, event_type: str, message_id: str, body: bytes
    ) -> Delivery:
        keys = await self._ring.keys_of(tenant_id)
        delivery_id = new_id()
        async with unit_of_work(self._database, tenant_id) as connection:
            if (await self._found(connection, keys, webhook_id)).disabled:
                raise WebhookDisabled
            row = await connection.fetchrow(
                _ENQUEUE,
                tenant_id,
                delivery_id,
                webhook_id,
                message_id,
                event_type,
                webhook_rows.sealed_body(keys, delivery_id, body),
            )
        assert row is not None  # noqa: S101 - a message of its own is no conflict
        return delivery_from(row)

    async def _found(self, connection: Connection, keys: TenantKeys, webhook_id: str) -> Webhook:
        return _webhook(await connection.fetchrow(_FIND, keys.tenant_id, webhook_id), keys)


def _webhook(row: Record | None, keys: TenantKeys) -> Webhook:
    if row is None:
        raise WebhookNotFound
    return webhook_from(row, keys)


async def _record(connection: Connection, act: Act) -> None:
    await audit.record(
        connection, source=SOURCE, action=act.action, resource=act.resource, details=act.details
    )


_COUNT: Final = "SELECT count(*) FROM webhooks WHERE tenant_id = $1"

_ADD: Final = f"""
INSERT INTO webhooks (tenant_id, webhook_id, url, description, event_types, secret, disabled,
                      created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING {COLUMNS}
"""  # noqa: S608 - constant columns

_FIND: Final = f"""
SELECT {COLUMNS} FROM webhooks WHERE tenant_id = $1 AND webhook_id = $2
"""  # noqa: S608 - constant columns

_LIST: Final = f"""
SELECT {COLUMNS} FROM webhooks
 WHERE tenant_id = $1 AND ($2::uuid IS NULL OR webhook_id < $2)
 ORDER BY webhook_id DESC LIMIT $3
"""  # noqa: S608 - constant columns

# Whoever enables it again wants to see how it does from now on.
_CHANGE: Final = f"""
UPDATE webhooks
   SET url = coalesce($3, url), description = coalesce($4, description),
       event_types = coalesce($5::text[], event_types), disabled = coalesce($6, disabled),
       disabled_reason = CASE WHEN $6 IS NULL THEN disabled_reason ELSE '' END,
       failing_since = CASE WHEN $6 IS NULL AND $3 IS NULL THEN failing_since END,
       update_time = clock_timestamp()
 WHERE tenant_id = $1 AND webhook_id = $2
RETURNING {COLUMNS}
"""  # noqa: S608 - constant columns

_SIGNING: Final = """
SELECT secret FROM webhooks WHERE tenant_id = $1 AND webhook_id = $2 FOR UPDATE
"""

_ROTATE: Final = f"""
UPDATE webhooks
   SET secret = $3, previous_secret = $4,
       previous_expires_at = CASE WHEN $4::bytea IS NULL THEN NULL
                                  ELSE clock_timestamp() + $5::interval END,
       update_time = clock_timestamp()
 WHERE tenant_id = $1 AND webhook_id = $2
RETURNING {COLUMNS}
"""  # noqa: S608 - constant columns

_REMOVE: Final = """
DELETE FROM webhooks WHERE tenant_id = $1 AND webhook_id = $2 RETURNING true
"""

_DELIVERIES: Final = f"""
SELECT {DELIVERY_COLUMNS} FROM webhook_deliveries
 WHERE tenant_id = $1 AND webhook_id = $2
   AND (cardinality($3::text[]) = 0 OR state = ANY ($3))
   AND ($4::uuid IS NULL OR delivery_id < $4)
 ORDER BY delivery_id DESC LIMIT $5
"""  # noqa: S608 - constant columns

_IS_DISABLED: Final = """
SELECT w.disabled FROM webhook_deliveries d
  JOIN webhooks w ON w.tenant_id = $1 AND w.webhook_id = d.webhook_id
 WHERE d.tenant_id = $1 AND d.delivery_id = $2
"""

_AGAIN: Final = f"""
UPDATE webhook_deliveries
   SET state = 'pending', attempts = 0, next_attempt_at = clock_timestamp(), end_time = NULL
 WHERE tenant_id = $1 AND delivery_id = $2
RETURNING {DELIVERY_COLUMNS}
"""  # noqa: S608 - constant columns

_ENQUEUE: Final = f"""
INSERT INTO webhook_deliveries (tenant_id, delivery_id, webhook_id, message_id, user_id, event_type,
                                body)
VALUES ($1, $2, $3, $4, '', $5, $6)
RETURNING {DELIVERY_COLUMNS}
"""  # noqa: S608 - constant columns

GIVE_UP: Final = """
UPDATE webhook_deliveries
   SET state = 'failed', next_attempt_at = NULL, end_time = clock_timestamp(),
       last_error = CASE WHEN attempts = 0 THEN 'the webhook was disabled' ELSE last_error END
 WHERE tenant_id = $1 AND webhook_id = $2 AND state = 'pending'
"""
"""Ends what is pending for a webhook."""
