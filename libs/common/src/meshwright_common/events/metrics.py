"""Metrics of the way from the outbox to the effect."""

from __future__ import annotations

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
