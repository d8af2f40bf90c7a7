"""The notifications of a caller, from whichever call happens to carry them."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Final

from meshwright.session.v1 import notification_pb2, notification_service_pb2
from meshwright_common.errors import DeadlineExceeded, Unavailable
from meshwright_common.rpc.stream import open_stream
from meshwright_common.telemetry.logging import get_logger
from meshwright_gateway.http.turn_feed import PAUSES_SECONDS

if TYPE_CHECKING:
    from meshwright.session.v1.notification_service_pb2_grpc import NotificationServiceAsyncStub

_HEALTHY_SECONDS: Final = 10.0
"""A call that lived so long did not fail: it met its deadline, or its process was stopped."""

_logger = get_logger(__name__)


class NotificationFeed:
    """Follows one caller's notifications over as many calls as it takes, each once."""

    def __init__(
        self,
        notifications: "NotificationServiceAsyncStub",
        *,
        after_id: str = "",
        pauses_seconds: Sequence[float] = PAUSES_SECONDS,
    ) -> None:
        self._notifications = notifications
        self._after_id = after_id
        self._pauses_seconds = pauses_seconds

    async def notifications(self) -> AsyncGenerator[notification_pb2.Notification, None]:
        """Yield what there is and then what comes, for ever.

        Raises: whatever the session service refuses the first call with; Unavailable or
        DeadlineExceeded when it stays away.
        """
        loop = asyncio.get_running_loop()
        failures, followed = 0, False
        while True:
            began, before = loop.time(), self._after_id
            request = notification_service_pb2.WatchNotificationsRequest(after_id=before)
            try:
                async with open_stream(self._notifications.WatchNotifications(request)) as answers:
                    async for answer in answers:
                        self._after_id = answer.notification.notification_id
                        yield answer.notification
            except (DeadlineExceeded, Unavailable) as error:
                if self._after_id != before or loop.time() - began > _HEALTHY_SECONDS:
                    failures, followed = 0, True
                if not followed or failures == len(self._pauses_seconds):
                    raise
                _logger.info("notifications_followed_again", reason=error.reason)
            else:
                raise Unavailable("the notifications cannot be followed at the moment")
            await asyncio.sleep(self._pauses_seconds[failures])
            failures += 1
