"""Notifications: something that a person should hear of, told with the change that it is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from meshwright_common.events import outbox
from meshwright_common.events.envelope import Event
from meshwright_common.events.topics import Topic
from meshwright_common.storage.postgres import Connection

CREATED: Final = "notification.created"


@dataclass(frozen=True, slots=True)
class Notice:
    """What is told to whom (meshwright.events.v1.NotificationCreated).

    An empty `user_id` stands for the tenant's administrators. `kind` is such as "document.failed",
    `title` one line for people, `resource` such as "document/0192…". `details` are JSON values,
    such as ids. Neither the title nor they hold content or secrets.
    """

    user_id: str
    kind: str
    title: str
    resource: str
    details: Mapping[str, object]


def notice_event(
    notice: Notice, *, source: str, tenant_id: str, correlation_id: str | None = None
) -> Event:
    """Return the event that tells a notice; as `tell`."""
    return Event.new(
        event_type=CREATED,
        source=source,
        tenant_id=tenant_id,
        partition_key=notice.user_id or tenant_id,
        correlation_id=correlation_id,
        data={
            "user_id": notice.user_id,
            "kind": notice.kind,
            "title": notice.title,
            "resource": notice.resource,
            "details": dict(notice.details),
        },
    )


async def tell(
    connection: Connection,
    notice: Notice,
    *,
    source: str,
    tenant_id: str,
    correlation_id: str | None = None,
) -> None:
    """Append a notification in the caller's open transaction; `source` is the telling service.

    Without a `correlation_id` it has that of the current call. Raises: EventTooLarge.
    """
    event = notice_event(notice, source=source, tenant_id=tenant_id, correlation_id=correlation_id)
    await outbox.append(connection, Topic.NOTIFICATION, event)
