"""Rows of session.webhooks and session.webhook_deliveries; addresses, secrets and bodies sealed."""

from typing import Final

from meshwright_common.encryption import Place, TenantKeys
from meshwright_common.storage.postgres import Record
from meshwright_session.domain.webhook_models import Delivery, DeliveryState, Webhook

WEBHOOKS: Final = "session.webhooks"
DELIVERIES: Final = "session.webhook_deliveries"
COLUMNS: Final = (
    "tenant_id, webhook_id, url, description, event_types, disabled, disabled_reason,"
    " CASE WHEN previous_expires_at > now() THEN previous_expires_at END AS previous_expires_at,"
    " failing_since, created_by, create_time, update_time"
)
DELIVERY_COLUMNS: Final = (
    "delivery_id, webhook_id, message_id, event_type, state, attempts, next_attempt_at,"
    " last_status, last_error, last_duration_milliseconds, create_time, end_time"
)


def sealed(keys: TenantKeys, column: str, webhook_id: str, value: str) -> bytes:
    """Return a text for a column of a webhook."""
    return keys.seal(Place(WEBHOOKS, column, webhook_id), value.encode())


def opened(keys: TenantKeys, column: str, webhook_id: str, value: bytes) -> str:
    """Return the text that was sealed there. Raises: SealBroken."""
    return keys.open(Place(WEBHOOKS, column, webhook_id), value).decode()


def sealed_body(keys: TenantKeys, delivery_id: str, body: bytes) -> bytes:
    """Return a message's body for its column."""
    return keys.seal(Place(DELIVERIES, "body", delivery_id), body)


def opened_body(keys: TenantKeys, delivery_id: str, body: bytes) -> bytes:
    """Return the body that was sealed there. Raises: SealBroken."""
    return keys.open(Place(DELIVERIES, "body", delivery_id), body)


def webhook_from(row: Record, keys: TenantKeys) -> Webhook:
    """Return the webhook of a row that holds COLUMNS. Raises: SealBroken."""
    return Webhook(
        tenant_id=row["tenant_id"],
        webhook_id=row["webhook_id"],
        url=opened(keys, "url", row["webhook_id"], row["url"]),
        description=row["description"],
        event_types=tuple(row["event_types"]),
        disabled=row["disabled"],
        disabled_reason=row["disabled_reason"],
        previous_expire_time=row["previous_expires_at"],
        failing_since=row["failing_since"],
        created_by=row["created_by"],
        create_time=row["create_time"],
        update_time=row["update_time"],
    )


def delivery_from(row: Record) -> Delivery:
    """Return the delivery of a row that holds DELIVERY_COLUMNS."""
    return Delivery(
        delivery_id=row["delivery_id"],
        webhook_id=row["webhook_id"],
        message_id=row["message_id"],
        event_type=row["event_type"],
        state=DeliveryState(row["state"]),
        attempts=row["attempts"],
        next_attempt_time=row["next_attempt_at"],
        last_status=row["last_status"],
        last_error=row["last_error"],
        last_duration_milliseconds=row["last_duration_milliseconds"],
        create_time=row["create_time"],
        end_time=row["end_time"],
    )
