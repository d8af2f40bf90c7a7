"""Metrics of the edge."""

from typing import Final

from prometheus_client import Gauge, Histogram

from meshwright_common.telemetry import metric_names

HTTP_SERVER_SECONDS: Final = Histogram(
    metric_names.HTTP_SERVER_SECONDS,
    "Time from the head of a request to the end of its answer, streams included.",
    ("method", "route", "status"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 300),
)
HTTP_LONG_ANSWERS: Final = Gauge(
    metric_names.HTTP_LONG_ANSWERS, "Streams, downloads and long answers under way."
)
HTTP_CONNECTIONS: Final = Gauge(metric_names.HTTP_CONNECTIONS, "Connections of clients.")
