"""Metrics of the first two levels of memory."""

from typing import Final

from prometheus_client import Counter, Gauge

from meshwright_common.telemetry import metric_names
from meshwright_session.domain.windows import Level, Read

WINDOW_LOADS: Final = Counter(
    metric_names.SESSION_WINDOW_LOADS,
    "Windows of sessions loaded: where they were found (l1, l2, cold), and what PostgreSQL had to "
    "be asked for besides (nothing, newer, all).",
    ("level", "read"),
)
WINDOW_BYTES: Final = Gauge(
    metric_names.SESSION_WINDOW_BYTES, "Memory that windows of sessions take here.", ("level",)
)
CHECKPOINT_BYTES: Final = Counter(
    metric_names.SESSION_CHECKPOINT_BYTES, "Bytes of windows written to Redis."
)
CHECKPOINT_FAILURES: Final = Counter(
    metric_names.SESSION_CHECKPOINT_FAILURES,
    "Reads and writes of windows that Redis did not answer.",
)


def count_load(level: Level, read: Read) -> None:
    """Count one load."""
    WINDOW_LOADS.labels(level, read).inc()
