"""Sends what is due for webhooks. Any number of processes may do so at once."""

import asyncio
import collections
import contextlib
from typing import Final

from prometheus_client import Counter

from meshwright_common.errors import ServiceError
from meshwright_common.telemetry import metric_names
from meshwright_common.telemetry.logging import get_logger
from meshwright_session.domain.webhook_sending import Due, Sending, SendingQueue

MOST: Final = 1000
ATTEMPTS: Final = Counter(
    metric_names.WEBHOOK_ATTEMPTS,
    "Attempts to tell webhooks something, by the class of the answer: 2xx … 5xx, or none.",
    ("answer",),
)
for _answer in ("2xx", "3xx", "4xx", "5xx", "none"):
    ATTEMPTS.labels(_answer)

logger = get_logger(__name__)


class WebhookWorker:
    """Keeps up to `slots` attempts under way, of each webhook up to `slots_per_webhook`."""

    def __init__(
        self,
        queue: SendingQueue,
        sending: Sending,
        *,
        slots: int,
        slots_per_webhook: int,
        look_seconds: float,
    ) -> None:
        self._queue = queue
        self._sending = sending
        self._slots = slots
        self._slots_per_webhook = slots_per_webhook
        self._look_seconds = look_seconds
        self._under_way: dict[str, str] = {}
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Finish what is under way and end."""
        self._stopping.set()

    async def run(self) -> None:
        """Send for as long as this process lives."""
        async with asyncio.TaskGroup() as group:
            while not self._stopping.is_set():
                for one in await self._due():
                    self._begin(group, one)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._look_seconds):
                        await self._stopping.wait()

    async def _due(self) -> list[Due]:
        try:
            # Those under way may still look due: room for the ones behind them.
            found = await self._queue.due(MOST, 2 * self._slots_per_webhook)
        except ServiceError as error:
            logger.warning("webhooks_not_read", reason=error.reason)
            return []
        return [one for one in found if one.delivery_id not in self._under_way]

    def _begin(self, group: asyncio.TaskGroup, due: Due) -> None:
        busy = collections.Counter(self._under_way.values())
        if len(self._under_way) < self._slots and busy[due.webhook_id] < self._slots_per_webhook:
            self._under_way[due.delivery_id] = due.webhook_id
            group.create_task(self._send(due))

    async def _send(self, due: Due) -> None:
        try:
            answer = await self._sending.send(due)
        except ServiceError as error:
            # What was begun counts as lost when its lease is over, and is tried again.
            logger.warning("webhook_not_settled", webhook_id=due.webhook_id, reason=error.reason)
        else:
            if answer is not None:
                ATTEMPTS.labels(_class_of(answer.status)).inc()
                logger.info("webhook_attempted", webhook_id=due.webhook_id, status=answer.status)
        finally:
            del self._under_way[due.delivery_id]


def _class_of(status: int) -> str:
    """Return the class of an HTTP status; "none" for what is not one, as when nobody answered."""
    return f"{status // 100}xx" if 200 <= status < 600 else "none"
