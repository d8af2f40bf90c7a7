"""The topics as they have to be on a cluster: made by us when missing, never by the broker."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from meshwright_common.errors import Unavailable
from meshwright_common.events.kafka_connection import connecting
from meshwright_common.events.topics import retentions
from meshwright_common.settings import EventSettings
from meshwright_common.telemetry.logging import get_logger

REQUEST_SECONDS: Final = 2.0
"""For each answer of a broker. Less than what a publisher has for all: to be cancelled while it
connects makes the driver forget a connection."""
MAX_MESSAGE_BYTES: Final = 2 * 1024 * 1024
"""Twice what we accept, so that it is us who say what is too large, and why."""
COPIES: Final = 3
"""Of each topic, when the cluster has so many brokers."""
IN_SYNC: Final = 2
"""Copies that have to have an event before it counts as stored, of three or more."""
SEGMENT: Final = timedelta(hours=12)
"""Kafka deletes whole segments, when the last event in one has expired. With this an event is gone
half a day after its retention at the latest, while consumers know it for a day longer."""

logger = get_logger(__name__)


async def make_missing(settings: EventSettings) -> list[str]:
    """Make the topics that the cluster lacks; return their names. Idempotent, also at once.

    Topics that are there stay as they are. Raises: Unavailable when the cluster cannot be reached
    or refuses.
    """
    admin = AIOKafkaAdminClient(
        **connecting(settings), request_timeout_ms=round(REQUEST_SECONDS * 1000)
    )
    try:
        await admin.start()
        present = set(await admin.list_topics())
        cluster = await admin.describe_cluster()
        copies = settings.replication_factor or min(COPIES, len(cluster["brokers"]))
        wanted = [
            _topic(settings, name, kept, copies)
            for name, kept in retentions().items()
            if settings.topic_prefix + name not in present
        ]
        if not wanted:
            return []
        answer = await admin.create_topics(wanted)
        made = [name for name in _made(answer.topic_errors)]
    except (KafkaError, OSError, TimeoutError) as error:
        raise Unavailable(
            f"Kafka's topics cannot be looked after: {error}", retry_after_seconds=1.0
        ) from error
    finally:
        await admin.close()
    if made:
        logger.info("kafka_topics_made", count=len(made), copies=copies)
    return made


def _made(results: list[tuple[str, int, str | None]]) -> list[str]:
    made = []
    for name, code, *message in results:
        error = for_code(code)
        if code == 0:
            made.append(name)
        elif error is not TopicAlreadyExistsError:
            # Another process may make them at the same time.
            raise error(f"{name}: {message[0] if message else ''}")
    return made


def _topic(settings: EventSettings, name: str, kept: timedelta, copies: int) -> NewTopic:
    return NewTopic(
        name=settings.topic_prefix + name,
        num_partitions=settings.partitions,
        replication_factor=copies,
        topic_configs={
            "cleanup.policy": "delete",
            "retention.ms": _milliseconds(kept),
            "segment.ms": _milliseconds(min(SEGMENT, kept)),
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
            "min.insync.replicas": str(IN_SYNC if copies >= COPIES else 1),
        },
    )


def _milliseconds(duration: timedelta) -> str:
    return str(round(duration.total_seconds() * 1000))
