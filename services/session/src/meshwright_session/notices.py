"""What this service does on events about ends of tasks and on notifications.

A consumer of its own: what goes wrong here holds up no ledger, and counts against no ledger's
share of dead letters.
"""

from collections.abc import Callable, Sequence
from typing import Final

from meshwright_common.events.consumer import EventRejected
from meshwright_common.events.envelope import Event
from meshwright_common.events.notification import CREATED
from meshwright_common.events.topics import Topic
from meshwright_common.storage.postgres import Connection
from meshwright_session.domain.notifications import NotificationIntake
from meshwright_session.domain.task_statistics import TaskCounter
from meshwright_session.domain.webhooks import WebhookIntake
from meshwright_session.wire import notifications, task_statistics

NOTICES: Final = "session-notices"
"""Owns the position in both topics."""
NOTICE_TOPICS: Final = (Topic.TASK_RESULT, Topic.NOTIFICATION)


class Notices:
    """Handles events of both topics; the stores write in the event's own transaction."""

    def __init__(
        self,
        intake: Callable[[Connection], NotificationIntake],
        counter: Callable[[Connection], TaskCounter],
        webhooks: Callable[[Connection], WebhookIntake],
    ) -> None:
        self._intake = intake
        self._counter = counter
        self._webhooks = webhooks

    async def handle(self, connection: Connection, event: Event) -> None:
        """Apply one event in its transaction. Types that later versions add are left alone.

        Raises: EventRejected when the data is not of the type that the event names.
        """
        await self.handle_all(connection, (event,))

    async def handle_all(self, connection: Connection, events: Sequence[Event]) -> None:
        """Do as `handle`, for events of one tenant at once.

        Raises: EventRejected when one of them is not what it says.
        """
        try:
            told = [notifications.notification_of(one) for one in events if _tells(one)]
            ends = [task_statistics.end_of(one) for one in events if _ends(one)]
        except ValueError as error:
            types = ", ".join(sorted({one.event_type for one in events}))
            raise EventRejected(f"{types}: {error}") from error
        if told:
            await self._intake(connection).add_all(told)
            await self._webhooks(connection).add_all(told)
        if ends:
            await self._counter(connection).count(ends)


def _tells(event: Event) -> bool:
    return event.event_type == CREATED


def _ends(event: Event) -> bool:
    return event.event_type in task_statistics.END_EVENTS
