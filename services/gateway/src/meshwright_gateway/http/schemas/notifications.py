"""Bodies of notifications."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from meshwright_gateway.http.schemas.common import (
    Identifier,
    Input,
    JsonObject,
    Listing,
    Moment,
    Output,
)


class Notification(Output):
    """Something that happened for the caller."""

    notification_id: str
    kind: str = Field(
        description="Such as `task.completed`, `task.failed`, `document.ready`, `document.failed`. "
        "More will come."
    )
    title: str = Field(description="One line for people.")
    resource: str = Field(
        description="What it is about, such as `document/<document_id>`. May be gone by now."
    )
    details: JsonObject = Field(description="Further facts, such as ids.")
    for_administrators: bool = Field(
        description="Told to the tenant's administrators together; each reads it for themselves."
    )
    create_time: datetime
    read_time: datetime | None = Field(description="Null: unread.")


class NotificationList(Listing):
    """Notifications, newest first."""

    notifications: list[Notification]


class NotificationsRead(Input):
    """What the caller has read. Give either field, not both."""

    notification_ids: Annotated[
        tuple[Identifier, ...],
        Field(strict=False, max_length=1000, description="These. Absent ones are passed over."),
    ] = ()
    until_time: Annotated[
        Moment | None, Field(description="All that happened at this moment or before it.")
    ] = None


class NotificationsMarked(Output):
    """What was marked."""

    marked_count: int = Field(description="How many were unread before.")
