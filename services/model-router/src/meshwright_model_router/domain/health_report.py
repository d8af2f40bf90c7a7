"""How a deployment does, as ListHealth shows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from meshwright_model_router.domain.catalogue import Deployment
from meshwright_model_router.domain.health import Health
from meshwright_model_router.domain.health_values import (
    NOTHING,
    BreakerState,
    LastFailure,
    Numbers,
)
from meshwright_model_router.domain.rolling import quantile

_SEVERITY: Final = (BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN)


@dataclass(frozen=True, slots=True)
class DeploymentState:
    """All replicas and all models of a deployment together; `breaker` is the worst of them.

    `retry_time`: when the last open breaker lets a call through; None: none is open. Times to the
    first token are seconds, None: there was none.
    """

    breaker: BreakerState
    retry_time: datetime | None
    numbers: Numbers
    first_token_p50: float | None
    first_token_p99: float | None
    last_failure: LastFailure | None

    @property
    def error_rate(self) -> float:
        """Failed share of the last minute's calls; 0 when there were none."""
        return self.numbers.failures / self.numbers.calls if self.numbers.calls else 0.0


def state_of(health: Health, deployment: Deployment) -> DeploymentState:
    """Return how `deployment` does, at most two seconds old for what others see."""
    now = health.clock.monotonic()
    numbers, worst = NOTHING, BreakerState.CLOSED
    until, failures = 0.0, list[LastFailure]()
    for one in health.models_of(deployment):
        numbers += one.own_numbers(now) + one.others
        state = one.state(now)
        worst = max(worst, state, key=_SEVERITY.index)
        if state is BreakerState.OPEN and one.rest is not None:
            until = max(until, one.rest.until)
        if one.last_failure is not None:
            failures.append(one.last_failure)
    return DeploymentState(
        breaker=worst,
        retry_time=health.clock.now() + timedelta(seconds=until - now) if until else None,
        numbers=numbers,
        first_token_p50=quantile(numbers.first_tokens, 0.5),
        first_token_p99=quantile(numbers.first_tokens, 0.99),
        last_failure=max(failures, key=lambda one: one.time, default=None),
    )
