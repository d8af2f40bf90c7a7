"""Notifications: messages to JSON bodies."""

from meshwright.session.v1 import notification_pb2, notification_service_pb2
from meshwright_gateway.http.schemas import notifications as schemas
from meshwright_gateway.wire import values


def notification_view(notification: notification_pb2.Notification) -> schemas.Notification:
    """Return a notification as JSON shows it."""
    return schemas.Notification(
        notification_id=notification.notification_id,
        kind=notification.kind,
        title=notification.title,
        resource=notification.resource,
        details=values.object_from(notification.details),
        for_administrators=notification.for_administrators,
        create_time=values.moment_from(notification.create_time),
        read_time=values.time_from(notification.read_time),
    )


def mark_request(
    body: schemas.NotificationsRead,
) -> notification_service_pb2.MarkNotificationsReadRequest:
    """Return the request that marks notifications as read."""
    return notification_service_pb2.MarkNotificationsReadRequest(
        notification_ids=body.notification_ids,
        until_time=values.timestamp_of(body.until_time),
    )
