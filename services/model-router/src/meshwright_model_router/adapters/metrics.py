"""Metrics of model calls, observed once a call, when it ends. Labels are operators' words only."""

from functools import lru_cache
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from meshwright_common.telemetry import metric_names, tracing
from meshwright_model_router.domain.usage import Operation, Outcome, UsageRecord

_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

MODEL_CALL_SECONDS: Final = Histogram(
    metric_names.MODEL_CALL_SECONDS,
    "Time of a model call, from the request to its end.",
    ("deployment", "operation", "outcome"),
    buckets=_SECONDS,
)
MODEL_FIRST_TOKEN_SECONDS: Final = Histogram(
    metric_names.MODEL_FIRST_TOKEN_SECONDS,
    "Time from the request to the first piece of output.",
    ("deployment",),
    buckets=_SECONDS,
)
MODEL_TOKENS: Final = Counter(
    metric_names.MODEL_TOKENS, "Tokens, by what they are.", ("deployment", "kind")
)
MODEL_COST_MICRO_USD: Final = Counter(
    metric_names.MODEL_COST_MICRO_USD,
    "Price of calls, in millionths of a US dollar.",
    ("deployment",),
)
MODEL_REPEATS: Final = Counter(
    metric_names.MODEL_REPEATS,
    "Requests that the platform repeated, at the same deployment or another one.",
    ("deployment",),
)
MODELS_FILE_REFUSED: Final = Gauge(
    metric_names.MODELS_FILE_REFUSED,
    "1 while the file of models is wrong and the last good one is in force.",
)


class _Instruments:
    """The series of one deployment, looked up once: that costs more than to count."""

    def __init__(self, deployment: str) -> None:
        self._deployment = deployment
        self._seconds: dict[tuple[Operation, Outcome], Histogram] = {}
        self.first_token = MODEL_FIRST_TOKEN_SECONDS.labels(deployment)
        self.prompt = MODEL_TOKENS.labels(deployment, "prompt")
        self.completion = MODEL_TOKENS.labels(deployment, "completion")
        self.cost = MODEL_COST_MICRO_USD.labels(deployment)

    def seconds(self, operation: Operation, outcome: Outcome) -> Histogram:
        found = self._seconds.get((operation, outcome))
        if found is None:
            found = MODEL_CALL_SECONDS.labels(self._deployment, operation.value, outcome.value)
            self._seconds[operation, outcome] = found
        return found


@lru_cache(maxsize=1024)
def _instruments(deployment: str) -> _Instruments:
    return _Instruments(deployment)


def observe(record: UsageRecord) -> None:
    """Count a call that ended, in the trace of the current call."""
    usage, instruments = record.usage, _instruments(record.deployment)
    if record.repeated_by_platform:
        MODEL_REPEATS.labels(record.deployment).inc()
    exemplar = tracing.exemplar()
    instruments.seconds(record.operation, record.outcome).observe(
        record.duration_milliseconds / 1000, exemplar
    )
    if record.first_token_milliseconds:
        instruments.first_token.observe(record.first_token_milliseconds / 1000, exemplar)
    instruments.prompt.inc(usage.prompt_tokens)
    instruments.completion.inc(usage.completion_tokens)
    if usage.cost_micro_usd:
        instruments.cost.inc(usage.cost_micro_usd)
