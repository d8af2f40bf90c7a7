"""Metrics of budgets. Labels are names of budgets only."""

from typing import Final

from prometheus_client import Counter, Gauge

from meshwright_common.telemetry import metric_names

REFUSED: Final = Counter(
    metric_names.BUDGET_REFUSED,
    "Attempts refused, by the budget that was full.",
    ("budget", "scope"),
)
OVERRUN_TOKENS: Final = Counter(
    metric_names.BUDGET_OVERRUN_TOKENS, "Tokens that attempts used beyond what was held for them."
)
DRIFT_TOKENS: Final = Counter(
    metric_names.BUDGET_DRIFT_TOKENS, "Tokens by which Redis differed from the ledger; corrected."
)
REBUILT: Final = Counter(
    metric_names.BUDGET_REBUILT, "Days of tenants that Redis had lost and that were counted again."
)
LOST: Final = Counter(
    metric_names.BUDGET_LOST_ATTEMPTS, "Attempts recorded as lost: their process had died."
)
SHARED: Final = Counter(
    metric_names.BUDGET_SHARED, "Attempts that a local share was given to without Redis."
)
AWAY: Final = Gauge(metric_names.BUDGET_REDIS_AWAY, "1 while budgets are counted without Redis.")
