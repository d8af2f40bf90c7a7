"""What becomes of deployments, as log entries and metrics."""

from typing import Final

from prometheus_client import Counter, Gauge

from meshwright_common.telemetry import metric_names
from meshwright_common.telemetry.logging import get_logger
from meshwright_model_router.domain.health import Change

TENANTS: Final = "(tenant)"
"""The label of all deployments that tenants made: their names are theirs, and without number."""

MODEL_HEALTH_CHANGES: Final = Counter(
    metric_names.MODEL_HEALTH_CHANGES,
    "Breakers that opened or closed, and pauses that providers asked for, as each replica sees it.",
    ("deployment", "change"),
)
MODEL_RESTING: Final = Gauge(
    metric_names.MODEL_RESTING,
    "Models of a deployment whose breaker is open or half open.",
    ("deployment",),
)

_logger = get_logger(__name__)


def observe(change: Change) -> None:
    """Log and count a change."""
    owner, name, model = change.health.key
    label = TENANTS if owner else name
    MODEL_HEALTH_CHANGES.labels(label, change.kind).inc()
    if change.kind == "opened":
        MODEL_RESTING.labels(label).inc()
    elif change.kind == "closed":
        MODEL_RESTING.labels(label).dec()
    log = _logger.info if change.kind == "closed" else _logger.warning
    log(
        f"model_deployment_{change.kind}",
        deployment=name,
        owner=owner,
        model=model,
        reason=change.reason,
        seconds=round(change.seconds, 3),
        elsewhere=change.elsewhere,
    )


def observe_alone(is_alone: bool) -> None:
    """Log that the other replicas' health is not known, or that it is again."""
    if is_alone:
        _logger.warning("model_health_alone")
    else:
        _logger.info("model_health_shared")
