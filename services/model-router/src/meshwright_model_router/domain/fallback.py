"""When a failed request is repeated, and how long to wait before it."""

import random
from collections.abc import Callable
from typing import Final

from meshwright_common.errors import ServiceError, Unavailable
from meshwright_model_router.domain.errors import ProviderRateLimit

MAX_ATTEMPTS: Final = 3
"""Requests to the provider for one call, all before its first piece was forwarded."""
FIRST_DELAY_SECONDS: Final = 0.5
MAX_DELAY_SECONDS: Final = 8.0
MAX_HONOURED_SECONDS: Final = 10.0
"""A provider that wants a longer pause is not waited for: the caller is told at once."""

Uniform = Callable[[float, float], float]


def delay_before_retry(
    error: ServiceError,
    attempt: int,
    seconds_left: float | None,
    uniform: Uniform = random.uniform,
) -> float | None:
    """Return the seconds to wait after `attempt` (from 1) failed with `error`; None: give up.

    Exponential with full jitter. A `Retry-After` is honoured up to 10 s; a rate limit without one
    is a used-up quota as often as not, and is repeated like any other. Time-outs are not repeated:
    the provider may still be working, and the caller has waited long enough.
    """
    if attempt >= MAX_ATTEMPTS or not isinstance(error, (Unavailable, ProviderRateLimit)):
        return None
    wanted = error.retry_after_seconds
    if wanted is not None and wanted > MAX_HONOURED_SECONDS:
        return None
    ceiling = min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** (attempt - 1))
    delay = max(wanted or 0.0, uniform(0.0, ceiling))
    return None if seconds_left is not None and delay >= seconds_left else delay
