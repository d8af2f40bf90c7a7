"""How turns do, in numbers."""

from typing import Final

from prometheus_client import Counter, Gauge

from meshwright_chat.domain.models import TurnState
from meshwright_common.telemetry import metric_names

TURNS_RUNNING: Final = Gauge(
    metric_names.TURNS_RUNNING, "Turns that this process works on: its active sessions."
)
TURN_ENDS: Final = Counter(
    metric_names.TURN_ENDS,
    "Turns that this process has ended: completed, failed or cancelled.",
    ("outcome",),
)
for _state in (TurnState.COMPLETED, TurnState.FAILED, TurnState.CANCELLED):
    TURN_ENDS.labels(_state.value)
TURN_TAKEOVERS: Final = Counter(
    metric_names.TURN_TAKEOVERS, "Turns taken over because the lease of another process ran out."
)
