"""NotificationService."""

from collections.abc import AsyncIterator
from contextlib import aclosing

from meshwright.session.v1 import notification_service_pb2 as pb
from meshwright.session.v1.notification_service_pb2_grpc import NotificationServiceServicer
from meshwright_common.context import principal
from meshwright_common.ids import parse_id
from meshwright_session.domain.notifications import Notifications
from meshwright_session.servicers import Context
from meshwright_session.wire import notifications, values


class NotificationServicer(NotificationServiceServicer):
    """Serves NotificationService."""

    def __init__(self, domain: Notifications) -> None:
        self._notifications = domain

    async def ListNotifications(
        self, request: pb.ListNotificationsRequest, context: Context
    ) -> pb.ListNotificationsResponse:
        """Return a page of the caller's notifications."""
        page = await self._notifications.list(
            principal(), values.page_request(request.page), unread_only=request.unread_only
        )
        return pb.ListNotificationsResponse(
            notifications=[notifications.notification_message(one) for one in page.rows],
            page=values.page_info(page.next_token),
        )

    async def MarkNotificationsRead(
        self, request: pb.MarkNotificationsReadRequest, context: Context
    ) -> pb.MarkNotificationsReadResponse:
        """Mark notifications as read by the caller."""
        ids = notifications.marked_ids(request)
        until = values.moment(request, "until_time")
        if until is None:
            marked = await self._notifications.mark(principal(), ids)
        else:
            marked = await self._notifications.mark_until(principal(), until)
        return pb.MarkNotificationsReadResponse(marked_count=marked)

    async def WatchNotifications(
        self, request: pb.WatchNotificationsRequest, context: Context
    ) -> AsyncIterator[pb.WatchNotificationsResponse]:
        """Stream notifications as they come."""
        after_id = parse_id(request.after_id, "after_id") if request.after_id else ""
        async with aclosing(self._notifications.watch(principal(), after_id)) as told:
            async for one in told:
                yield pb.WatchNotificationsResponse(
                    notification=notifications.notification_message(one)
                )
