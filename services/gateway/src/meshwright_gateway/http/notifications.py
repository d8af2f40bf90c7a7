"""Notifications: as lists, and as a stream of those that come."""

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated
from urllib.parse import parse_qsl

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from meshwright.session.v1 import notification_pb2, notification_service_pb2
from meshwright_common.context import bind
from meshwright_common.errors import InvalidArgument
from meshwright_common.ids import parse_id
from meshwright_gateway.errors import CursorUnknown
from meshwright_gateway.http.chat import event_stream
from meshwright_gateway.http.exchange import Exchange
from meshwright_gateway.http.notification_feed import NotificationFeed
from meshwright_gateway.http.paging import API_PREFIX, PageSize, PageToken
from meshwright_gateway.http.presence import LongAnswers
from meshwright_gateway.http.schemas import notifications as schemas
from meshwright_gateway.http.sse import event_frame
from meshwright_gateway.http.validation import validated
from meshwright_gateway.peers import Peers
from meshwright_gateway.wire import values
from meshwright_gateway.wire.notifications import mark_request, notification_view

if TYPE_CHECKING:
    from meshwright.session.v1.notification_service_pb2_grpc import NotificationServiceAsyncStub


class StreamQuery(BaseModel):
    """Where a stream goes on, for clients that cannot set headers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    last_event_id: str = ""


class NotificationStream:
    """The notifications of the caller as they come."""

    def __init__(self, peers: Peers, answers: LongAnswers) -> None:
        self._notifications = peers.notifications
        self._answers = answers

    async def follow(self, exchange: Exchange) -> None:
        """Send what comes after the event that the client saw last, until the client leaves."""
        feed = NotificationFeed(self._notifications, after_id=_cursor(exchange))
        stream = event_stream(exchange, self._answers, opens_early=True)
        stream.endless = True
        with bind(exchange.call_context(None)):
            async with stream, aclosing(feed.notifications()) as notifications:
                async for notification in notifications:
                    await stream.send(_frame(notification))


def notifications_router(notifications: "NotificationServiceAsyncStub") -> APIRouter:
    """Return the routes about notifications."""
    router = APIRouter(prefix=f"{API_PREFIX}/notifications", tags=["notifications"])

    @router.get("")
    async def list_notifications(
        unread_only: Annotated[bool, Query(description="Leave out what was read.")] = False,
        page_size: PageSize = None,
        page_token: PageToken = "",
    ) -> schemas.NotificationList:
        """Notifications of the caller, newest first."""
        answer = await notifications.ListNotifications(
            notification_service_pb2.ListNotificationsRequest(
                unread_only=unread_only, page=values.page_request(page_size, page_token)
            )
        )
        return schemas.NotificationList(
            notifications=[notification_view(one) for one in answer.notifications],
            next_page_token=answer.page.next_page_token,
        )

    @router.post("/read")
    async def mark_notifications_read(
        body: schemas.NotificationsRead,
    ) -> schemas.NotificationsMarked:
        """Mark notifications as read by the caller. A repeated call changes nothing."""
        answer = await notifications.MarkNotificationsRead(mark_request(body))
        return schemas.NotificationsMarked(marked_count=answer.marked_count)

    return router


def _frame(notification: notification_pb2.Notification) -> bytes:
    data = notification_view(notification).model_dump(mode="json")
    return f"id: {notification.notification_id}\n".encode() + event_frame("notification", data)


def _cursor(exchange: Exchange) -> str:
    """Return the Last-Event-ID; empty: none. Raises: CursorUnknown; ShapeRefused."""
    query_string = exchange.scope["query_string"].decode("latin-1")
    query = validated(StreamQuery, dict(parse_qsl(query_string, keep_blank_values=True)))
    given = exchange.headers.get(b"last-event-id", b"").decode("latin-1").strip()
    given = given or query.last_event_id.strip()
    try:
        return parse_id(given, "last_event_id") if given else ""
    except InvalidArgument:
        raise CursorUnknown(last_event_id=given[:100]) from None
