"""How the leases of tasks do, in numbers."""

from typing import Final

from prometheus_client import Counter

from meshwright_common.telemetry import metric_names

TASK_TAKEOVERS: Final = Counter(
    metric_names.TASK_TAKEOVERS, "Tasks taken over because the lease of another process ran out."
)
