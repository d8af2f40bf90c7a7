"""Metrics of every process, in the format of Prometheus."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from prometheus_client import Counter, Gauge, Histogram, Info, start_http_server

from meshwright_common.telemetry import metric_names

if TYPE_CHECKING:
    from meshwright_common.resilience.breaker import Breaker

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
RPC_CLIENT_BREAKER_OPEN: Final = Gauge(
    metric_names.RPC_CLIENT_BREAKER_OPEN,
    "Channels of this process that give a peer a pause now, because calls to it kept failing.",
    ("peer",),
)
QUOTA_REFUSED: Final = Counter(
    metric_names.QUOTA_REFUSED,
    "What was refused because a tenant had used up a quota, by the tenant's plan.",
    ("quota", "plan"),
)
BUILD: Final = Info(metric_names.BUILD, "What runs here: 1, with the process's name and version.")
DISTRIBUTION: Final = "meshwright-common"
"""Its version is the platform's."""

_breakers: dict[str, "WeakSet[Breaker]"] = {}


def watch_breaker(peer: str, breaker: "Breaker") -> None:
    """Count a breaker among those of the peer for as long as it lives."""
    breakers = _breakers.get(peer)
    if breakers is None:
        breakers = _breakers[peer] = WeakSet()
        # Born at 0: an increase from nothing to 1 would be none.
        RPC_CLIENT_BREAKER_OPENINGS.labels(peer)
        counted = breakers
        RPC_CLIENT_BREAKER_OPEN.labels(peer).set_function(
            lambda: sum(one.is_open for one in tuple(counted))
        )
    breakers.add(breaker)


def describe(name: str) -> None:
    """Say what runs here; `name` is the process's, such as "chat" or "rag+session"."""
    BUILD.info({"process": name, "version": version(DISTRIBUTION)})


def serve(listen: str) -> None:
    """Serve the metrics at `http://<listen>/metrics` from a thread; do nothing when empty.

    Raises: OSError when the address is taken; ValueError when it is not "host:port".
    """
    if not listen:
        return
    host, _, port = listen.rpartition(":")
    start_http_server(int(port), host or "127.0.0.1")
