"""Metrics of background work and of searches."""

from typing import Final

from prometheus_client import Counter, Histogram

from meshwright_common.telemetry import metric_names

WORK_SECONDS: Final = Histogram(
    metric_names.RAG_WORK_SECONDS,
    "Time of one attempt at a piece of work, such as indexing a document.",
    ("kind", "outcome"),
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)
DEGRADED_SEARCHES: Final = Counter(
    metric_names.RAG_DEGRADED_SEARCHES,
    "Searches that were answered without one of their sides.",
    ("missing",),
)
MEMORY_WRITES: Final = Counter(
    metric_names.RAG_MEMORY_WRITES,
    "Writes to the index of memories, each of one or more.",
    ("kind",),
)
