"""Metrics of stored answers and of guards. Labels are operators' words only."""

from typing import Final

from prometheus_client import Counter

from meshwright_common.telemetry import metric_names

ANSWER_CACHE_CALLS: Final = Counter(
    metric_names.MODEL_ANSWER_CACHE_CALLS,
    "Calls that asked for stored answers, by how they were answered.",
    ("status",),
)
GUARD_FINDINGS: Final = Counter(
    metric_names.MODEL_GUARD_FINDINGS,
    "What guards found; all guards of tenants are one.",
    ("guard", "side", "action"),
)
