"""Routing policies: requests as domain values, domain values as answers."""

import math
import re
from collections.abc import Iterable
from typing import Final

from google.protobuf.duration_pb2 import Duration

from meshwright.model_router.v1 import deployment_pb2 as pb
from meshwright_common.errors import invalid
from meshwright_model_router.domain.catalogue import WILDCARD
from meshwright_model_router.domain.routing import (
    DEFAULT_ATTEMPTS,
    MAX_ATTEMPTS,
    MAX_FALLBACKS,
    CoolDown,
    RoutingPolicy,
    Strategy,
)
from meshwright_model_router.domain.routing_records import PolicyRecord
from meshwright_model_router.wire.routing import MODEL_NAME, timestamp

MAX_MODELS: Final = 100
MAX_FAILURES: Final = 100
_POLICY_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}")
_STRATEGIES: Final = {
    pb.ROUTING_STRATEGY_UNSPECIFIED: Strategy.PRIORITY,
    pb.ROUTING_STRATEGY_PRIORITY: Strategy.PRIORITY,
    pb.ROUTING_STRATEGY_WEIGHTED: Strategy.WEIGHTED,
    pb.ROUTING_STRATEGY_LEAST_BUSY: Strategy.LEAST_BUSY,
    pb.ROUTING_STRATEGY_LOWEST_LATENCY: Strategy.LOWEST_LATENCY,
    pb.ROUTING_STRATEGY_LOWEST_COST: Strategy.LOWEST_COST,
}
_WIRE: Final = {strategy: number for number, strategy in _STRATEGIES.items() if number}
_DEFAULT: Final = CoolDown()


def policy_name(name: str, field: str = "name") -> str:
    """Return the name of a policy. Raises: InvalidArgument."""
    if not _POLICY_NAME.fullmatch(name):
        raise invalid(field, "must be 1 to 64 of a-z 0-9 _ -")
    return name


def policy_from(message: pb.RoutingPolicy) -> RoutingPolicy:
    """Return the policy to store. Raises: InvalidArgument naming the field."""
    if message.HasField("update_time"):
        raise invalid("policy.update_time", "is the platform's to say")
    strategy = _STRATEGIES.get(message.strategy)
    if strategy is None:
        raise invalid("policy.strategy", "is not one of RoutingStrategy")
    if not 0 <= message.max_attempts <= MAX_ATTEMPTS:
        raise invalid("policy.max_attempts", f"must be 1 to {MAX_ATTEMPTS}, or 0 for 3")
    models = _names(message.models, "policy.models", MAX_MODELS, patterns=True)
    fallbacks = _names(
        message.fallback_models, "policy.fallback_models", MAX_FALLBACKS, patterns=False
    )
    if set(models) & set(fallbacks):
        raise invalid("policy.fallback_models", "must not name a model that the policy rules")
    hedge = None
    if message.HasField("hedge_after"):
        hedge = _seconds(message.hedge_after, "policy.hedge_after", 0.1, 30)
    return RoutingPolicy(
        name=policy_name(message.name, "policy.name"),
        models=models,
        strategy=strategy,
        sticky_by_session=message.sticky_by_session,
        fallback_models=fallbacks,
        max_attempts=message.max_attempts or DEFAULT_ATTEMPTS,
        hedge_after_seconds=hedge,
        cool_down=_cool_down(message.cool_down),
    )


def policy_message(record: PolicyRecord) -> pb.RoutingPolicy:
    """Return a policy as its tenant sees it."""
    policy = record.policy
    hedge = policy.hedge_after_seconds
    return pb.RoutingPolicy(
        name=policy.name,
        models=policy.models,
        strategy=_WIRE[policy.strategy],
        sticky_by_session=policy.sticky_by_session,
        fallback_models=policy.fallback_models,
        max_attempts=policy.max_attempts,
        hedge_after=None if hedge is None else _duration(hedge),
        cool_down=pb.CoolDown(
            consecutive_failures=policy.cool_down.consecutive_failures,
            error_rate=policy.cool_down.error_rate,
            duration=_duration(policy.cool_down.seconds),
        ),
        etag=str(record.revision),
        update_time=timestamp(record.update_time),
    )


def _cool_down(message: pb.CoolDown) -> CoolDown:
    failures = message.consecutive_failures or _DEFAULT.consecutive_failures
    if not 1 <= failures <= MAX_FAILURES:
        raise invalid(
            "policy.cool_down.consecutive_failures", f"must be 1 to {MAX_FAILURES}, or 0 for 3"
        )
    rate = message.error_rate if message.HasField("error_rate") else _DEFAULT.error_rate
    if not (math.isfinite(rate) and 0 < rate <= 1):
        raise invalid("policy.cool_down.error_rate", "must be over 0 and at most 1")
    seconds = _DEFAULT.seconds
    if message.HasField("duration"):
        seconds = _seconds(message.duration, "policy.cool_down.duration", 1, 3600)
    return CoolDown(failures, rate, seconds)


def _names(values: Iterable[str], field: str, most: int, *, patterns: bool) -> tuple[str, ...]:
    names = tuple(values)
    if len(names) > most:
        raise invalid(field, f"must be at most {most}")
    if len(set(names)) != len(names):
        raise invalid(field, "must not name one twice")
    for at, name in enumerate(names):
        stem = name.removesuffix(WILDCARD) if patterns else name
        if not MODEL_NAME.fullmatch(stem):
            raise invalid(f"{field}[{at}]", "must be the name of a model")
    return names


def _seconds(duration: Duration, field: str, least: float, most: float) -> float:
    seconds = duration.seconds + duration.nanos / 1e9
    if not least <= seconds <= most:
        raise invalid(field, f"must be {least:g} to {most:g} seconds")
    return seconds


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromMicroseconds(round(seconds * 1_000_000))
    return duration
