"""Metrics of the edge."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

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
TURN_STREAMS: Final = Counter(
    metric_names.TURN_STREAMS,
    "Turns that were followed for a client, on any wire, by how that ended: whole (the last event "
    "was given, or the turn waits for a person), left (the client went), broken, refused.",
    ("end",),
)
for _end in ("whole", "left", "broken", "refused"):
    TURN_STREAMS.labels(_end)
TURN_STREAM_RESUMES: Final = Counter(
    metric_names.TURN_STREAM_RESUMES,
    "Streams of turns that went on: a client came back (client), or chat was asked again (server).",
    ("side",),
)
for _side in ("client", "server"):
    TURN_STREAM_RESUMES.labels(_side)
TURN_FIRST_TOKEN_SECONDS: Final = Histogram(
    metric_names.TURN_FIRST_TOKEN_SECONDS,
    "Time from a question to the first piece of its answer at the gateway.",
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 30, 60),
)
LIMITS_REFUSED: Final = Counter(
    metric_names.LIMITS_REFUSED, "Requests refused because a limit was reached.", ("limit",)
)
LIMITS_ALONE: Final = Gauge(
    metric_names.LIMITS_ALONE, "1 while the limits are not shared, because Redis is away."
)
LIMITS_FILE_REFUSED: Final = Gauge(
    metric_names.LIMITS_FILE_REFUSED, "1 while the file of limits cannot be used as it is."
)
LOAD_SHED: Final = Counter(
    metric_names.LOAD_SHED, "Requests refused because there were too many at once.", ("priority",)
)
LOAD_LIMIT: Final = Gauge(
    metric_names.LOAD_LIMIT, "How many requests may be on their way to their first byte."
)
LOAD_RUNNING: Final = Gauge(
    metric_names.LOAD_RUNNING, "How many requests are on their way to their first byte."
)
