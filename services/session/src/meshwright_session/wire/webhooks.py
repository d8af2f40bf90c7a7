"""Webhooks: requests and messages."""

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from meshwright.session.v1 import webhook_pb2, webhook_service_pb2
from meshwright_common.errors import invalid
from meshwright_session.domain.webhook_models import (
    MAX_OVERLAP,
    Delivery,
    DeliveryState,
    Webhook,
    WebhookChange,
    WebhookDraft,
    message_id_of,
)
from meshwright_session.wire import values

MAX_URL_CHARACTERS: Final = 2048
MAX_DESCRIPTION_CHARACTERS: Final = 300
MAX_EVENT_TYPES: Final = 50
DEFAULT_OVERLAP: Final = timedelta(hours=24)
_EVENT_TYPE: Final = re.compile(r"[a-z0-9_]+(?:\.[a-z0-9_]+)*(?:\.\*)?")
_WRITABLE: Final = frozenset({"url", "description", "event_types", "disabled"})
_STATES: Final = {
    DeliveryState.PENDING: webhook_pb2.WEBHOOK_DELIVERY_STATE_PENDING,
    DeliveryState.DELIVERED: webhook_pb2.WEBHOOK_DELIVERY_STATE_DELIVERED,
    DeliveryState.FAILED: webhook_pb2.WEBHOOK_DELIVERY_STATE_FAILED,
}
_STATES_FROM: Final = {int(number): state for state, number in _STATES.items()}


def draft_of(webhook: webhook_pb2.Webhook) -> WebhookDraft:
    """Return what a caller says of a new webhook. Raises: InvalidArgument."""
    for field, _ in webhook.ListFields():
        if field.name not in _WRITABLE:
            raise invalid(f"webhook.{field.name}", "is the platform's to say: leave it out")
    return WebhookDraft(
        url=_url(webhook), description=_description(webhook), event_types=_event_types(webhook),
        disabled=webhook.disabled,
    )  # fmt: skip


def change_of(request: webhook_service_pb2.UpdateWebhookRequest) -> WebhookChange:
    """Return what to change. Raises: InvalidArgument."""
    paths = frozenset(request.update_mask.paths)
    if not paths or (unknown := paths - _WRITABLE):
        named = ", ".join(sorted(unknown)) if paths else "nothing"
        raise invalid("update_mask", f"names {named}; it can name {', '.join(sorted(_WRITABLE))}")
    webhook = request.webhook
    return WebhookChange(
        url=_url(webhook) if "url" in paths else None,
        description=_description(webhook) if "description" in paths else None,
        event_types=_event_types(webhook) if "event_types" in paths else None,
        disabled=webhook.disabled if "disabled" in paths else None,
    )


def overlap_of(request: webhook_service_pb2.RotateSecretRequest) -> timedelta:
    """Return how long the old secret signs on. Raises: InvalidArgument."""
    if not request.HasField("overlap"):
        return DEFAULT_OVERLAP
    wire = request.overlap
    if not 0 <= wire.seconds + wire.nanos / 1e9 <= MAX_OVERLAP.total_seconds():
        raise invalid("overlap", f"must be 0 to {MAX_OVERLAP.days} days")
    return timedelta(seconds=wire.seconds, microseconds=wire.nanos // 1000)


def states_of(states: Iterable[int]) -> tuple[DeliveryState, ...]:
    """Return the states of a filter. Raises: InvalidArgument."""
    wanted = tuple(states)
    if unknown := [one for one in wanted if one not in _STATES_FROM]:
        raise invalid("states", f"holds a value that is no state: {unknown[0]}")
    return tuple(_STATES_FROM[one] for one in wanted)


def _url(webhook: webhook_pb2.Webhook) -> str:
    return values.text(webhook.url, "webhook.url", most=MAX_URL_CHARACTERS, least=1)


def _description(webhook: webhook_pb2.Webhook) -> str:
    return values.text(webhook.description, "webhook.description", most=MAX_DESCRIPTION_CHARACTERS)


def _event_types(webhook: webhook_pb2.Webhook) -> tuple[str, ...]:
    kinds = tuple(dict.fromkeys(webhook.event_types))
    if len(kinds) > MAX_EVENT_TYPES:
        raise invalid("webhook.event_types", f"must be at most {MAX_EVENT_TYPES}")
    for kind in kinds:
        if len(kind) > 100 or not _EVENT_TYPE.fullmatch(kind):
            raise invalid(
                "webhook.event_types", 'must be kinds such as "task.completed" or "task.*"'
            )
    return kinds


def webhook_message(webhook: Webhook) -> webhook_pb2.Webhook:
    """Return a webhook as the wire shows it."""
    return webhook_pb2.Webhook(
        webhook_id=webhook.webhook_id,
        url=webhook.url,
        description=webhook.description,
        event_types=webhook.event_types,
        disabled=webhook.disabled,
        disabled_reason=webhook.disabled_reason,
        previous_secret_expire_time=values.timestamp(webhook.previous_expire_time),
        failing_since=values.timestamp(webhook.failing_since),
        created_by=webhook.created_by,
        create_time=values.timestamp(webhook.create_time),
        update_time=values.timestamp(webhook.update_time),
    )


def delivery_message(delivery: Delivery) -> webhook_pb2.WebhookDelivery:
    """Return a delivery as the wire shows it."""
    return webhook_pb2.WebhookDelivery(
        delivery_id=delivery.delivery_id,
        webhook_id=delivery.webhook_id,
        message_id=message_id_of(delivery.message_id),
        event_type=delivery.event_type,
        state=_STATES[delivery.state],
        attempts=delivery.attempts,
        next_attempt_time=values.timestamp(delivery.next_attempt_time),
        last_status=delivery.last_status,
        last_error=delivery.last_error,
        last_duration_milliseconds=delivery.last_duration_milliseconds,
        create_time=values.timestamp(delivery.create_time),
        end_time=values.timestamp(delivery.end_time),
    )
