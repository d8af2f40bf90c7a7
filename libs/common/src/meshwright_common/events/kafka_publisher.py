"""Events from the outbox to Kafka: acknowledged by all copies, in order per key, or not at all.

One batch of a partition is under way at a time, and the next one leaves when it is acknowledged:
what stands behind a batch that was refused is never stored before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder

from meshwright_common.errors import Unavailable
from meshwright_common.events.kafka_connection import connecting
from meshwright_common.events.kafka_topics import REQUEST_SECONDS, make_missing
from meshwright_common.events.ports import Delivery, OutgoingEvent
from meshwright_common.settings import EventSettings

PUBLISH_TIMEOUT_SECONDS: Final = 5.0
"""For all of one call, connecting included: a relay's transaction may be idle for 10 s."""
CLOSE_TIMEOUT_SECONDS: Final = 2.0
CANCEL_AGAIN_SECONDS: Final = 0.2
BATCH_BYTES: Final = 512 * 1024
KNOWN_KEYS: Final = 65_536
"""Keys whose place is remembered: the driver computes it at 0.2 µs a byte."""


class KafkaPublisher:
    """Publishes to one cluster. Connects when first used, and anew after each failure."""

    def __init__(self, settings: EventSettings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None

    async def publish(self, events: Sequence[OutgoingEvent]) -> None:
        """As `EventPublisher.publish`, within 5 s. One call at a time."""
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_SECONDS):
                producer = await self._connected()
                await self._send(producer, events)
        except (KafkaError, OSError, TimeoutError, ExceptionGroup) as error:
            # Whether the rest of it was stored, or will be, is unknown now. A new producer begins
            # anew; this one would go on with its old batches behind what is published next.
            await self.close()
            cause = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
            raise Unavailable(
                f"Kafka has not acknowledged: {type(cause).__name__} {cause}",
                retry_after_seconds=1.0,
            ) from error
        except asyncio.CancelledError:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go of the producer and of all that it has not sent."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await abandon(producer)

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            await make_missing(self._settings)
            producer = make_producer(self._settings)
            try:
                await producer.start()
            except BaseException:
                await abandon(producer)
                raise
            self._producer = producer
        return self._producer

    async def _send(self, producer: AIOKafkaProducer, events: Sequence[OutgoingEvent]) -> None:
        by_topic: dict[str, list[Delivery]] = {}
        for event in events:
            by_topic.setdefault(event.topic, []).append(event.delivery)
        by_partition: dict[tuple[str, int], list[Delivery]] = {}
        for name, deliveries in by_topic.items():
            topic = self._settings.topic_prefix + name
            count = len(await producer.partitions_for(topic))
            for delivery in deliveries:
                place = (topic, _hash_of(delivery.partition_key) % count)
                by_partition.setdefault(place, []).append(delivery)
        async with asyncio.TaskGroup() as group:
            for (topic, partition), deliveries in by_partition.items():
                group.create_task(_send_in_order(producer, topic, partition, deliveries))


async def _send_in_order(
    producer: AIOKafkaProducer, topic: str, partition: int, deliveries: Iterable[Delivery]
) -> None:
    batch = producer.create_batch()
    for delivery in deliveries:
        if not _append(batch, delivery):
            await _send_batch(producer, batch, topic, partition)
            batch = producer.create_batch()
            # The first of a batch is taken whatever its size; nothing may be left out in silence.
            if not _append(batch, delivery):
                raise KafkaError(f"an event of {len(delivery.body)} bytes fits into no batch")
    await _send_batch(producer, batch, topic, partition)


async def _send_batch(
    producer: AIOKafkaProducer, batch: BatchBuilder, topic: str, partition: int
) -> None:
    batch.close()
    acknowledged = await producer.send_batch(batch, topic, partition=partition)
    await acknowledged


def _append(batch: BatchBuilder, delivery: Delivery) -> bool:
    added = batch.append(
        timestamp=None,
        key=delivery.partition_key.encode(),
        value=delivery.body,
        headers=[(name, value.encode()) for name, value in delivery.headers.items()],
    )
    return added is not None


@functools.lru_cache(maxsize=KNOWN_KEYS)
def _hash_of(key: str) -> int:
    """Return the number that every Kafka client's default partitioner gives a key."""
    positive: int = murmur2(key.encode()) & 0x7FFFFFFF
    return positive


def make_producer(settings: EventSettings) -> AIOKafkaProducer:
    """Return a producer that is not started yet, with what makes it safe. Defaults are not."""
    return AIOKafkaProducer(
        **connecting(settings),
        acks="all",
        enable_idempotence=True,
        compression_type="lz4",
        # Batches are whole when they come here.
        linger_ms=0,
        max_batch_size=BATCH_BYTES,
        request_timeout_ms=round(REQUEST_SECONDS * 1000),
    )


async def abandon(producer: AIOKafkaProducer) -> None:
    """End a producer without sending what it holds.

    Trap: its own `stop` sends all of it first and tries for ever, an idempotent producer's batches
    never expire, and when that is cancelled its sender goes on.
    """
    producer._closed = True
    sending = producer._sender.sender_task
    if sending is not None:
        sending.cancel()
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
            await producer.client.close()
    while sending is not None and not sending.done():
        # It waits for requests under way, and these for news of the cluster, which may never come.
        await asyncio.wait([sending], timeout=CANCEL_AGAIN_SECONDS)
        sending.cancel()


@contextlib.asynccontextmanager
async def open_publisher(settings: EventSettings) -> AsyncIterator[KafkaPublisher]:
    """Give a publisher and close it."""
    publisher = KafkaPublisher(settings)
    try:
        yield publisher
    finally:
        await publisher.close()
