"""Webhooks: JSON bodies to requests, messages to JSON bodies."""

from datetime import timedelta
from typing import Any, Final

from meshwright.session.v1 import webhook_pb2, webhook_service_pb2
from meshwright_gateway.errors import misshapen
from meshwright_gateway.http.schemas import webhooks as schemas
from meshwright_gateway.wire import values

DELIVERY_STATES: Final = {
    "pending": webhook_pb2.WEBHOOK_DELIVERY_STATE_PENDING,
    "delivered": webhook_pb2.WEBHOOK_DELIVERY_STATE_DELIVERED,
    "failed": webhook_pb2.WEBHOOK_DELIVERY_STATE_FAILED,
}


def create_request(body: schemas.WebhookCreation) -> webhook_service_pb2.CreateWebhookRequest:
    """Return the request that makes a webhook."""
    return webhook_service_pb2.CreateWebhookRequest(
        webhook=webhook_pb2.Webhook(
            url=body.url,
            description=body.description,
            event_types=body.event_types,
            disabled=body.disabled,
        )
    )


def update_request(
    webhook_id: str, body: schemas.WebhookUpdate
) -> webhook_service_pb2.UpdateWebhookRequest:
    """Return the request that changes a webhook. Raises: ShapeRefused."""
    changes = {name: value for name, value in body if value is not None}
    if not changes:
        raise misshapen("url", "give at least one field to change")
    request = webhook_service_pb2.UpdateWebhookRequest(
        webhook=webhook_pb2.Webhook(webhook_id=webhook_id, **changes)
    )
    request.update_mask.paths.extend(changes)
    return request


def rotate_request(
    webhook_id: str, body: schemas.SecretRotation
) -> webhook_service_pb2.RotateSecretRequest:
    """Return the request that replaces a secret."""
    request = webhook_service_pb2.RotateSecretRequest(webhook_id=webhook_id)
    request.overlap.FromTimedelta(timedelta(seconds=body.overlap_seconds))
    return request


def webhook_view(webhook: webhook_pb2.Webhook) -> schemas.Webhook:
    """Return a webhook as JSON shows it."""
    return schemas.Webhook.model_validate(_fields(webhook))


def secret_view(webhook: webhook_pb2.Webhook, secret: str) -> schemas.WebhookWithSecret:
    """Return a webhook with its secret as JSON shows them."""
    return schemas.WebhookWithSecret.model_validate(_fields(webhook) | {"secret": secret})


def _fields(webhook: webhook_pb2.Webhook) -> dict[str, Any]:
    return {
        "webhook_id": webhook.webhook_id,
        "url": webhook.url,
        "description": webhook.description,
        "event_types": list(webhook.event_types),
        "disabled": webhook.disabled,
        "disabled_reason": webhook.disabled_reason,
        "previous_secret_expire_time": values.time_from(webhook.previous_secret_expire_time),
        "failing_since": values.time_from(webhook.failing_since),
        "created_by": webhook.created_by,
        "create_time": values.moment_from(webhook.create_time),
        "update_time": values.moment_from(webhook.update_time),
    }


def delivery_view(delivery: webhook_pb2.WebhookDelivery) -> schemas.WebhookDelivery:
    """Return a delivery as JSON shows it."""
    return schemas.WebhookDelivery.model_validate(
        {
            "delivery_id": delivery.delivery_id,
            "webhook_id": delivery.webhook_id,
            "message_id": delivery.message_id,
            "event_type": delivery.event_type,
            "state": values.enum_name(
                webhook_pb2.WebhookDeliveryState, delivery.state, "WEBHOOK_DELIVERY_STATE_"
            ),
            "attempts": delivery.attempts,
            "next_attempt_time": values.time_from(delivery.next_attempt_time),
            "last_status": delivery.last_status,
            "last_error": delivery.last_error,
            "last_duration_milliseconds": delivery.last_duration_milliseconds,
            "create_time": values.moment_from(delivery.create_time),
            "end_time": values.time_from(delivery.end_time),
        }
    )
