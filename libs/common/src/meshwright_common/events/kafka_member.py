"""One process's membership in a consumer group: joins, lets go in order, and joins again.

The driver's assignment is sticky, but not incremental: in a rebalance every member lets go of all
its partitions for a moment, and gets most of them back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError

from meshwright_common.errors import Unavailable
from meshwright_common.events.kafka_connection import connecting
from meshwright_common.events.kafka_topics import make_missing
from meshwright_common.settings import EventSettings
from meshwright_common.telemetry.logging import get_logger

Records: TypeAlias = Mapping[TopicPartition, Sequence[ConsumerRecord]]

FETCH_WAIT_SECONDS: Final = 0.1
"""How long the broker keeps a question when there is nothing new. It answers at once when there is;
but a partition that was not asked about waits for the answer."""
PARTITION_FETCH_BYTES: Final = 1024 * 1024
FETCH_BYTES: Final = 8 * 1024 * 1024
MOST_BETWEEN_POLLS_SECONDS: Final = 120.0
"""A member that handles one batch for longer than this is taken for dead by its group."""
COMMIT_EVERY_SECONDS: Final = 0.1
"""Positions are written this often at most: what a crash leaves uncommitted comes again."""
COMMIT_TIMEOUT_SECONDS: Final = 3.0
CLOSE_TIMEOUT_SECONDS: Final = 5.0
POLL_TIMEOUT_SECONDS: Final = 1.0
JOIN_AGAIN_SECONDS: Final = 1.0

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Membership:
    """When a silent member is taken for dead, how often each speaks, how long a rebalance may take.

    `let_go_seconds` is how long the batch in hand may take when partitions are to be given up; it
    has to be shorter than `rebalance_seconds`, after which the group goes on without the member.
    """

    session_seconds: float = 15.0
    heartbeat_seconds: float = 3.0
    rebalance_seconds: float = 30.0
    let_go_seconds: float = 20.0


DEFAULT_MEMBERSHIP: Final = Membership()


class KafkaMember(ConsumerRebalanceListener):
    """A member of the group `consumer`, reading `topics` (names without the prefix)."""

    def __init__(
        self,
        settings: EventSettings,
        consumer: str,
        topics: Sequence[str],
        membership: Membership = DEFAULT_MEMBERSHIP,
    ) -> None:
        self._settings = settings
        self._group = settings.topic_prefix + consumer
        self._topics = [settings.topic_prefix + topic for topic in topics]
        self._membership = membership
        self._consumer: AIOKafkaConsumer | None = None
        self._broken = asyncio.Event()
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._in_hand = 0
        self._letting_go = False
        self._passed: dict[TopicPartition, int] = {}
        self.epoch = 0
        """Goes up when partitions are given up: records of an earlier one are not ours any more."""

    async def run(self) -> None:
        """Be a member until cancelled; an absent cluster is waited for."""
        waiting = False
        while True:
            try:
                consumer = await self._join()
            except (Unavailable, KafkaError, OSError, TimeoutError) as error:
                if not waiting:
                    logger.warning("kafka_away", group=self._group, error=str(error))
                waiting = True
                await asyncio.sleep(JOIN_AGAIN_SECONDS)
                continue
            waiting = False
            logger.info("kafka_joined", group=self._group)
            try:
                await self._stay(consumer)
            finally:
                await self._commit(consumer)
                self._forget()
                self._consumer = None
                await leave(consumer)
            logger.warning("kafka_left", group=self._group)

    async def poll(self, topic: str, most: int, *, wait_seconds: float = 0.0) -> Records:
        """Return up to `most` next records of a topic; none after `wait_seconds`.

        Raises: Unavailable when the membership is lost: it is being had anew.
        """
        consumer = self._consumer
        partitions = self._partitions(consumer, topic)
        if consumer is None or not partitions:
            await _within(wait_seconds, self._changed)
            return {}
        try:
            # A rebalance under way may take longer than anybody wants to wait here.
            async with asyncio.timeout(wait_seconds + POLL_TIMEOUT_SECONDS):
                records: Records = await consumer.getmany(
                    *partitions, timeout_ms=round(wait_seconds * 1000), max_records=most
                )
                return records
        except TimeoutError:
            return {}
        except KafkaError as error:
            self._broken.set()
            raise Unavailable(
                f"Kafka cannot be read: {type(error).__name__} {error}", retry_after_seconds=1.0
            ) from error

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Work on records: partitions are not given up before the block is left, for a while."""
        self._in_hand += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._in_hand -= 1
            if not self._in_hand:
                self._idle.set()

    def is_ours(self, epoch: int) -> bool:
        """Return whether work on records of `epoch` may begin."""
        return epoch == self.epoch and not self._letting_go

    def passed(self, epoch: int, records: Records) -> None:
        """Note that the effects of records are committed; the position follows soon."""
        if epoch == self.epoch:
            self._passed |= {place: read[-1].offset + 1 for place, read in records.items()}

    def give_back(self, epoch: int, records: Records) -> None:
        """Have records delivered again."""
        if self._consumer is None or epoch != self.epoch:
            return
        for place, read in records.items():
            with contextlib.suppress(IllegalStateError):
                self._consumer.seek(place, read[0].offset)

    async def lag(self, topic: str) -> int:
        """Return how many records lie before this member in its partitions of a topic."""
        consumer, ahead = self._consumer, 0
        for place in self._partitions(consumer, topic):
            with contextlib.suppress(KafkaError, TimeoutError, AssertionError):
                async with asyncio.timeout(POLL_TIMEOUT_SECONDS):
                    position = await consumer.position(place) if consumer else 0
                    end = consumer.highwater(place) if consumer else None
                ahead += max(0, (end or 0) - position)
        return ahead

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Finish what is in hand, tell the group how far we are, let go."""
        self._letting_go = True
        if not await _within(self._membership.let_go_seconds, self._idle):
            logger.warning("kafka_batch_outlived_rebalance", group=self._group)
        if self._consumer is not None:
            await self._commit(self._consumer)
        self._forget()

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Begin with what we were given."""
        self._letting_go = False
        self._wake()

    async def _join(self) -> AIOKafkaConsumer:
        await make_missing(self._settings)
        consumer = make_consumer(self._settings, self._group, self._membership)
        consumer.subscribe(self._topics, listener=self)
        try:
            await consumer.start()
        except BaseException:
            await leave(consumer)
            raise
        self._letting_go = False
        self._broken.clear()
        self._consumer = consumer
        self._wake()
        return consumer

    async def _stay(self, consumer: AIOKafkaConsumer) -> None:
        """Write positions now and then; return when the membership is broken."""
        # The driver tells nobody when its fetching has ended.
        fetching = consumer._fetcher.error_future
        while not self._broken.is_set() and not fetching.done():
            await _within(COMMIT_EVERY_SECONDS, self._broken)
            await self._commit(consumer)

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        if not self._passed:
            return
        passed, self._passed = self._passed, {}
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_SECONDS):
                await consumer.commit(passed)
        except (KafkaError, OSError, TimeoutError) as error:
            # Harmless: they come again, and are known.
            logger.info("kafka_position_not_written", group=self._group, error=str(error))

    def _partitions(self, consumer: AIOKafkaConsumer | None, topic: str) -> list[TopicPartition]:
        if consumer is None:
            return []
        name = self._settings.topic_prefix + topic
        return [place for place in consumer.assignment() if place.topic == name]

    def _forget(self) -> None:
        self.epoch += 1
        self._passed.clear()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def make_consumer(
    settings: EventSettings, group: str, membership: Membership = DEFAULT_MEMBERSHIP
) -> AIOKafkaConsumer:
    """Return a consumer that is not started yet, with what makes it safe. Defaults are not."""
    return AIOKafkaConsumer(
        **connecting(settings),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        partition_assignment_strategy=(StickyPartitionAssignor,),
        session_timeout_ms=_milliseconds(membership.session_seconds),
        heartbeat_interval_ms=_milliseconds(membership.heartbeat_seconds),
        rebalance_timeout_ms=_milliseconds(membership.rebalance_seconds),
        max_poll_interval_ms=_milliseconds(MOST_BETWEEN_POLLS_SECONDS),
        fetch_max_wait_ms=_milliseconds(FETCH_WAIT_SECONDS),
        fetch_max_bytes=FETCH_BYTES,
        max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
    )


async def leave(consumer: AIOKafkaConsumer) -> None:
    """Leave the group and close, within some seconds whatever the cluster does."""
    # house: naked-task: awaited below, for as long as it may take
    stopping = asyncio.ensure_future(consumer.stop())
    await asyncio.wait([stopping], timeout=CLOSE_TIMEOUT_SECONDS)
    while not stopping.done():
        # It waits for answers of a broker that is not there.
        if consumer._coordinator is not None:
            consumer._coordinator._coordination_task.cancel()
        stopping.cancel()
        await asyncio.wait([stopping], timeout=COMMIT_EVERY_SECONDS)
    if stopping.cancelled():
        await consumer._client.close()
    elif (error := stopping.exception()) is not None:
        logger.info("kafka_not_left", group=consumer._group_id, error=str(error))


async def _within(seconds: float, happening: asyncio.Event) -> bool:
    """Wait for an event; return whether it came in time."""
    if seconds <= 0:
        return happening.is_set()
    try:
        async with asyncio.timeout(seconds):
            await happening.wait()
    except TimeoutError:
        return False
    return True


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
