"""A consumer: reads topics, applies each event once, survives everything but a broken deploy."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from meshwright_common.clock import SystemClock
from meshwright_common.errors import DeadlineExceeded, Unavailable
from meshwright_common.events import metrics
from meshwright_common.events.embedded import EmbeddedLog
from meshwright_common.events.handling import (
    HANDLER_TIMEOUT_SECONDS,
    RETRY_LADDER_SECONDS,
    BatchHandler,
    EventRejected,
    Handler,
    Handling,
    Outcome,
)
from meshwright_common.events.ports import EventLog, Subscription
from meshwright_common.events.topics import Topic
from meshwright_common.storage.postgres import Database, TransactionConflict
from meshwright_common.telemetry.logging import get_logger

__all__ = ["BatchHandler", "Consumer", "ConsumerBroken", "EventRejected", "Handler", "Policy"]

BATCH_SIZE: Final = 500
"""A batch costs some ten exchanges with the server, whatever is in it."""
GATHER_SECONDS: Final = 0.005
"""Pause after a batch that was not full: a batch costs the same for one event as for many, so on a
busy stream they gather. The first event of a quiet one is handled at once."""
LONGEST_GATHER_SECONDS: Final = 0.01
"""The pause doubles up to this while every batch brings events. At 1 000 events/s through Kafka the
slowest hundredth takes 51 to 66 ms from commit to effect (figure events_delay); with 20 ms here 92,
with 30 ms 115, of the 80 that it may take: whoever gathers longer also has more to do at once."""
HELD_BACK_SECONDS: Final = 0.05
"""Pause when there is more, but behind a transaction that still runs."""
FIRST_BACKOFF_SECONDS: Final = 0.5
MEASURE_SECONDS: Final = 10.0
"""Between two looks at how far behind the consumer is."""
LONGEST_BACKOFF_SECONDS: Final = 4.0
"""Events arrive within 5 s of the engine's return (R-08): a longer pause would break that."""

logger = get_logger(__name__)


class ConsumerBroken(Exception):
    """Too many events became dead letters: a deploy is broken, not the data. The process ends."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient a consumer is, and when it stops itself rather than bury all that it sees.

    `ladder_seconds` are the pauses between tries; `poll_seconds` is the longest a committed event
    waits when its wake-up was lost. It stops after `buried_in_a_row` dead letters without a
    success between them, or when they are more than `buried_share` of the last `window` events.
    """

    ladder_seconds: tuple[float, ...] = RETRY_LADDER_SECONDS
    handler_timeout_seconds: float = HANDLER_TIMEOUT_SECONDS
    poll_seconds: float = 1.0
    buried_in_a_row: int = 20
    window: int = 100
    buried_share: float = 0.5


DEFAULT_POLICY: Final = Policy()


class Consumer:
    """Hands each event of `topics` to `handler`, in order per key, with its effect exactly once.

    `name` owns the position in the log: all processes with the same name share the work, a new
    name starts at the log's beginning. `log` is where to read; without it, the embedded log.
    With a `batch_handler`, what lies there is handed over at once, and `handler` gets the rest.
    """

    def __init__(
        self,
        name: str,
        topics: Sequence[Topic],
        handler: Handler,
        database: Database,
        *,
        batch_handler: BatchHandler | None = None,
        log: EventLog | None = None,
        policy: Policy = DEFAULT_POLICY,
    ) -> None:
        self.name = name
        self._log = log or EmbeddedLog(database)
        self._policy = policy
        self._stopping = asyncio.Event()
        self._gather = dict.fromkeys(topics, GATHER_SECONDS)
        self._in_a_row = 0
        self._recent: deque[bool] = deque(maxlen=policy.window)
        self._handling = {
            topic: Handling(
                consumer=name,
                topic=topic,
                handler=handler,
                batch_handler=batch_handler,
                ladder_seconds=policy.ladder_seconds,
                handler_timeout_seconds=policy.handler_timeout_seconds,
            )
            for topic in topics
        }
        for topic in topics:
            metrics.announce(name, topic.value)

    async def run(self) -> None:
        """Work until `stop` is called. Waits out an absent PostgreSQL or broker.

        Raises: ConsumerBroken, inside an ExceptionGroup; any error that is not an outage.
        """
        async with (
            self._log.subscribe(self.name, tuple(self._handling)) as subscriptions,
            asyncio.TaskGroup() as group,
        ):
            following = [
                group.create_task(self._follow(topic, subscription), name=f"{self.name}-{topic}")
                for topic, subscription in subscriptions.items()
            ]
            measuring = group.create_task(self._measure(subscriptions))
            await asyncio.wait(following)
            measuring.cancel()

    def stop(self) -> None:
        """Finish the batch in hand and let `run` return."""
        self._stopping.set()

    async def _follow(self, topic: Topic, subscription: Subscription) -> None:
        backoff = FIRST_BACKOFF_SECONDS
        while not self._stopping.is_set():
            try:
                pause = await self._step(topic, subscription)
            except (Unavailable, DeadlineExceeded, TransactionConflict) as error:
                # Nothing was committed, nobody is to blame: the same deliveries come again.
                logger.warning("consumer_waits", consumer=self.name, topic=topic, error=str(error))
                pause = None
            if pause is None:
                await self._sleep(backoff * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)
            else:
                backoff = FIRST_BACKOFF_SECONDS
                await self._wait(subscription, pause)

    async def _step(self, topic: Topic, subscription: Subscription) -> float | None:
        """Handle one batch; return for how long to wait at most, None to back off."""
        handling = self._handling[topic]
        async with subscription.batch(BATCH_SIZE) as batch:
            if batch is None:
                return self._policy.poll_seconds
            retried, new = await handling.apply(batch.connection, batch.deliveries, most=BATCH_SIZE)
        for outcome in (retried, new):
            self._count(topic, outcome)
            self._judge(outcome)
        if batch.deliveries:
            metrics.BATCH_EVENTS.labels(self.name, topic.value).observe(len(batch.deliveries))
            # They come oldest first, or nearly so.
            age = metrics.age_seconds(batch.deliveries[0].event_id, SystemClock().now())
            if age is not None and new.applied:
                metrics.CONSUMER_DELAY_SECONDS.labels(self.name, topic.value).observe(age)
        if retried.stalled or new.stalled:
            return None
        if retried.applied or len(batch.deliveries) == BATCH_SIZE:
            return 0.0
        if batch.deliveries:
            pause = self._gather[topic]
            self._gather[topic] = min(pause * 2, LONGEST_GATHER_SECONDS)
            await self._sleep(pause)
        else:
            self._gather[topic] = GATHER_SECONDS
        return HELD_BACK_SECONDS if batch.more else self._policy.poll_seconds

    def _count(self, topic: Topic, outcome: Outcome) -> None:
        for result, count in asdict(outcome).items():
            if count:
                metrics.HANDLED_EVENTS.labels(self.name, topic.value, result).inc(count)

    async def _measure(self, subscriptions: Mapping[Topic, Subscription]) -> None:
        while True:
            for topic, subscription in subscriptions.items():
                with contextlib.suppress(Unavailable, DeadlineExceeded):
                    lag = await subscription.lag()
                    metrics.CONSUMER_LAG.labels(self.name, topic.value).set(lag)
            await asyncio.sleep(MEASURE_SECONDS)

    def _judge(self, outcome: Outcome) -> None:
        if outcome.applied:
            self._in_a_row = 0
        self._in_a_row += outcome.buried
        self._recent.extend([False] * outcome.applied + [True] * outcome.buried)
        full = len(self._recent) == self._policy.window
        share = sum(self._recent) / len(self._recent) if full else 0.0
        if self._in_a_row >= self._policy.buried_in_a_row or share > self._policy.buried_share:
            raise ConsumerBroken(
                f"{self.name} buried {self._in_a_row} events in a row and {share:.0%} of the last "
                f"{self._policy.window}: repair the consumer, then replay its dead letters."
            )

    async def _wait(self, subscription: Subscription, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        async with asyncio.TaskGroup() as group:
            woken = group.create_task(subscription.wait(seconds))
            stopped = group.create_task(self._stopping.wait())
            await asyncio.wait((woken, stopped), return_when=asyncio.FIRST_COMPLETED)
            woken.cancel()
            stopped.cancel()

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
