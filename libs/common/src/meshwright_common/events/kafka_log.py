"""The log on Kafka: one member of a consumer group per consumer, effects in PostgreSQL.

The position in Kafka follows the effects and never leads them: it is written after the batch's
transaction, and what comes twice for that is dropped by the inbox.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence

from meshwright_common.errors import Unavailable
from meshwright_common.events.kafka_member import (
    DEFAULT_MEMBERSHIP,
    KafkaMember,
    Membership,
    Records,
)
from meshwright_common.events.kafka_records import delivery_of
from meshwright_common.events.ports import Batch, Subscription
from meshwright_common.events.topics import Topic
from meshwright_common.settings import EventSettings
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.tenancy import unscoped


class KafkaLog:
    """The event log on the cluster of `settings`, its effects in `database`."""

    def __init__(
        self,
        settings: EventSettings,
        database: Database,
        *,
        membership: Membership = DEFAULT_MEMBERSHIP,
    ) -> None:
        self._settings = settings
        self._database = database
        self._membership = membership

    @contextlib.asynccontextmanager
    async def subscribe(
        self, consumer: str, topics: Sequence[Topic]
    ) -> AsyncIterator[Mapping[Topic, Subscription]]:
        names = [topic.value for topic in topics]
        member = KafkaMember(self._settings, consumer, names, self._membership)
        async with asyncio.TaskGroup() as group:
            being = group.create_task(member.run(), name=f"{consumer}-kafka")
            try:
                yield {
                    topic: _TopicSubscription(self._database, member, topic.value)
                    for topic in topics
                }
            finally:
                being.cancel()


class _TopicSubscription:
    """A consumer's reading of its share of one topic."""

    def __init__(self, database: Database, member: KafkaMember, topic: str) -> None:
        self._database = database
        self._member = member
        self._topic = topic
        self._most = 1
        self._epoch = 0
        self._found: Records = {}
        """What `wait` came upon, of that epoch: it goes into the next batch."""

    @contextlib.asynccontextmanager
    async def batch(self, most: int) -> AsyncIterator[Batch | None]:
        self._most = most
        records = self._take_found() or await self._member.poll(self._topic, most)
        # Without an await in between: a rebalance comes before the records, or waits for them.
        epoch = self._member.epoch
        with self._member.holding():
            try:
                async with unscoped(self._database) as connection:
                    yield Batch(
                        connection=connection,
                        deliveries=[delivery_of(one) for read in records.values() for one in read],
                        more=False,
                    )
            except BaseException:
                self._member.give_back(epoch, records)
                raise
            self._member.passed(epoch, records)

    async def wait(self, seconds: float) -> None:
        if self._found:
            return
        # What is wrong is said when the next batch is asked for.
        with contextlib.suppress(Unavailable):
            found = await self._member.poll(self._topic, self._most, wait_seconds=seconds)
            self._epoch, self._found = self._member.epoch, found

    async def lag(self) -> int:
        return await self._member.lag(self._topic)

    def _take_found(self) -> Records:
        found, self._found = self._found, {}
        return found if self._member.is_ours(self._epoch) else {}
