"""What a policy says about choosing among deployments. The wire is `deployment.proto`."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

DEFAULT_PRIORITY: Final = 50
DEFAULT_WEIGHT: Final = 100
DEFAULT_ATTEMPTS: Final = 3
MAX_ATTEMPTS: Final = 5
MAX_FALLBACKS: Final = 4


class Strategy(StrEnum):
    """How one of several deployments is chosen."""

    PRIORITY = "priority"
    WEIGHTED = "weighted"
    LEAST_BUSY = "least_busy"
    LOWEST_LATENCY = "lowest_latency"
    LOWEST_COST = "lowest_cost"


@dataclass(frozen=True, slots=True)
class DeploymentLimits:
    """What a deployment can carry, all replicas together. 0: unlimited."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    concurrent_requests: int = 0


@dataclass(frozen=True, slots=True)
class CoolDown:
    """When a deployment rests: failures in a row, failed share of the last minute, seconds."""

    consecutive_failures: int = 3
    error_rate: float = 0.2
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class RoutingPolicy:
    """How calls of some models are routed. `name` "": the operator's default.

    `hedge_after_seconds` None: no second deployment is asked while the first is silent.
    """

    name: str = ""
    models: tuple[str, ...] = ()
    strategy: Strategy = Strategy.PRIORITY
    sticky_by_session: bool = False
    fallback_models: tuple[str, ...] = ()
    max_attempts: int = DEFAULT_ATTEMPTS
    hedge_after_seconds: float | None = None
    cool_down: CoolDown = CoolDown()
