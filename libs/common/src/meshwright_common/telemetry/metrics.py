"""Metrics of every process, in the format of Prometheus."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from meshwright_common.telemetry import metric_names

RPC_SERVER_SECONDS: Final = Histogram(
    metric_names.RPC_SERVER_SECONDS,
    "Time from the arrival of a call to its end, streams included.",
    ("method", "code"),
    buckets=(
        0.0005,
        0.001,
        0.0025,
        0.005,
        0.01,
        0.025,
        0.05,
        0.1,
        0.25,
        0.5,
        1,
        2.5,
        5,
        10,
        60,
        300,
    ),
)
RPC_SERVER_RUNNING: Final = Gauge(metric_names.RPC_SERVER_RUNNING, "Calls being served.")
RPC_CLIENT_RETRIES: Final = Counter(
    metric_names.RPC_CLIENT_RETRIES, "Calls repeated because the peer was not reached.", ("peer",)
)
RPC_CLIENT_INSTANCES: Final = Gauge(
    metric_names.RPC_CLIENT_INSTANCES, "Instances of a peer that calls are spread over.", ("peer",)
)
RPC_CLIENT_EJECTIONS: Final = Counter(
    metric_names.RPC_CLIENT_EJECTIONS, "Instances left out because calls kept failing.", ("peer",)
)
RPC_CLIENT_BREAKER_OPENINGS: Final = Counter(
    metric_names.RPC_CLIENT_BREAKER_OPENINGS,
    "How often a peer was given a pause because calls to it kept failing.",
    ("peer",),
)


def serve(listen: str) -> None:
    """Serve the metrics at `http://<listen>/metrics` from a thread; do nothing when empty.

    Raises: OSError when the address is taken; ValueError when it is not "host:port".
    """
    if not listen:
        return
    host, _, port = listen.rpartition(":")
    start_http_server(int(port), host or "127.0.0.1")
