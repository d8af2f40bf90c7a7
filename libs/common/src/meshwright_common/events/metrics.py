"""Metrics of the way from the outbox to the effect."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from meshwright_common.telemetry import metric_names

OUTBOX_WAITING: Final = Gauge(
    metric_names.OUTBOX_WAITING,
    "Events in the outbox that no relay has published yet, counted up to 10 000 a shard.",
)
OUTBOX_OLDEST_SECONDS: Final = Gauge(
    metric_names.OUTBOX_OLDEST_SECONDS, "Age of the oldest event that waits to be published."
)
OUTBOX_PUBLISHED: Final = Counter(
    metric_names.OUTBOX_PUBLISHED, "Events that the broker has acknowledged to this process."
)
BROKER_AWAY: Final = Gauge(
    metric_names.OUTBOX_BROKER_AWAY,
    "1 while this process's relay cannot publish, because the broker or PostgreSQL is away.",
)
CONSUMER_DELAY_SECONDS: Final = Histogram(
    metric_names.CONSUMER_DELAY_SECONDS,
    "Age of the oldest event of a batch when its effect was committed.",
    ("consumer", "topic"),
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600),
)
CONSUMER_LAG: Final = Gauge(
    metric_names.CONSUMER_LAG,
    "Events that lie before a consumer in the log; with Kafka, in this process's partitions.",
    ("consumer", "topic"),
)
BATCH_EVENTS: Final = Histogram(
    metric_names.CONSUMER_BATCH_EVENTS,
    "Events read in one transaction.",
    ("consumer", "topic"),
    buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500),
)
HANDLED_EVENTS: Final = Counter(
    metric_names.CONSUMER_HANDLED,
    "What became of events: applied, deferred, failed, buried or malformed.",
    ("consumer", "topic", "result"),
)
RESULTS: Final = ("applied", "malformed", "deferred", "failed", "buried")


def announce(consumer: str, topic: str) -> None:
    """Let the counters of a consumer begin at 0: a first dead letter is to be seen as one more."""
    for result in RESULTS:
        HANDLED_EVENTS.labels(consumer, topic, result)


def age_seconds(event_id: str, now: datetime) -> float | None:
    """Return how old an event is, by its id (UUID 7, RFC 9562 5.7); None for ids without a time."""
    if event_id[14:15] != "7":
        return None
    try:
        born_milliseconds = int(event_id[:8] + event_id[9:13], 16)
    except ValueError:
        return None
    return max(0.0, now.timestamp() - born_milliseconds / 1000)
