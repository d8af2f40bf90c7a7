"""Notifications: requests, messages, and the event that they come from."""

import re
from typing import Final

from google.protobuf import json_format

from meshwright.events.v1 import notification_pb2 as event_pb2
from meshwright.session.v1 import notification_pb2, notification_service_pb2
from meshwright_common import kept_trace
from meshwright_common.errors import InvalidArgument, invalid
from meshwright_common.events.envelope import Event
from meshwright_session.domain.notification_models import NewNotification, Notification
from meshwright_session.wire import values

MAX_MARKED: Final = 1_000
MAX_USER_CHARACTERS: Final = 200
MAX_LINE_CHARACTERS: Final = 300
MAX_DETAILS_BYTES: Final = 16 * 1024
_KIND: Final = re.compile(r"[a-z0-9_.]{1,100}")


def marked_ids(
    request: notification_service_pb2.MarkNotificationsReadRequest,
) -> tuple[str, ...]:
    """Return which notifications to mark; none when the request names a time instead.

    Raises: InvalidArgument, also when the request names neither or both.
    """
    ids = values.identifiers(request.notification_ids, "notification_ids", most=MAX_MARKED)
    if bool(ids) == request.HasField("until_time"):
        raise invalid("notification_ids", "must be given, or until_time, and not both")
    return ids


def notification_message(notification: Notification) -> notification_pb2.Notification:
    """Return a notification as the wire shows it."""
    return notification_pb2.Notification(
        notification_id=notification.notification_id,
        kind=notification.kind,
        title=notification.title,
        resource=notification.resource,
        details=values.struct(notification.details),
        for_administrators=notification.for_administrators,
        create_time=values.timestamp(notification.create_time),
        read_time=values.timestamp(notification.read_time),
    )


def notification_of(event: Event) -> NewNotification:
    """Return the notification of a notification.created event.

    Fields of later versions are ignored. Raises: ValueError when the data is not of that type.
    """
    data = event_pb2.NotificationCreated()
    try:
        json_format.ParseDict(dict(event.data), data, ignore_unknown_fields=True)
        if not _KIND.fullmatch(data.kind):
            raise ValueError("kind is none")
        return NewNotification(
            tenant_id=event.tenant_id,
            notification_id=event.event_id,
            time=values.event_time(event),
            user_id=values.text(data.user_id, "user_id", most=MAX_USER_CHARACTERS),
            kind=data.kind,
            title=values.name(data.title, "title", most=MAX_LINE_CHARACTERS),
            resource=values.text(data.resource, "resource", most=MAX_LINE_CHARACTERS),
            details=values.json_object(data.details, "details", most_bytes=MAX_DETAILS_BYTES),
            trace=kept_trace.joined(event.traceparent, event.tracestate),
        )
    except (json_format.ParseError, InvalidArgument) as error:
        raise ValueError(str(error)) from error
