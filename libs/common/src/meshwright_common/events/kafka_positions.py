"""The positions of a consumer group that nobody runs."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from meshwright_common.errors import Unavailable
from meshwright_common.events.kafka_connection import connecting
from meshwright_common.settings import EventSettings


async def rewind(settings: EventSettings, consumer: str, topics: Sequence[str]) -> None:
    """Set the positions of `consumer` in `topics` (without the prefix) to their beginning.

    What is delivered again for that is dropped by the inbox. Raises: Unavailable when Kafka is away
    or when the group has members.
    """
    member = AIOKafkaConsumer(
        **connecting(settings),
        group_id=settings.topic_prefix + consumer,
        enable_auto_commit=False,
    )
    try:
        await member.start()
        places = [
            TopicPartition(settings.topic_prefix + topic, partition)
            for topic in topics
            for partition in range(settings.partitions)
        ]
        member.assign(places)
        await member.commit(dict.fromkeys(places, 0))
    except KafkaError as error:
        raise Unavailable(
            f"The positions of {consumer} cannot be set: {error}", retry_after_seconds=5.0
        ) from error
    finally:
        await member.stop()
