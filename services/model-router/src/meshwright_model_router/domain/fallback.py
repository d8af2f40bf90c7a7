"""What follows a failed request: the same deployment again, another one, or nothing."""

import random
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from meshwright_common.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    ServiceError,
    Unavailable,
)
from meshwright_model_router.domain.errors import (
    AnswerTooLong,
    ContextLengthExceeded,
    DeploymentLimited,
    ProviderRateLimit,
)

FIRST_DELAY_SECONDS: Final = 0.5
MAX_DELAY_SECONDS: Final = 8.0
MAX_HONOURED_SECONDS: Final = 10.0
"""A provider that wants a longer pause is not waited for: another one is asked, or the caller is
told at once."""
LEAST_SECONDS: Final = 0.1
"""No request is begun with less time than this."""

Uniform = Callable[[float, float], float]


class Remedy(StrEnum):
    """What may help a call whose request failed."""

    NONE = "none"
    """Nothing: the request itself is at fault, or the caller is over a limit."""
    ANOTHER = "another"
    """Another deployment. The same one would say the same, or is given no more of the time."""
    LARGER = "larger"
    """A deployment whose context window is larger."""
    AGAIN = "again"
    """Another deployment, or after a pause the same one."""


def remedy_for(error: ServiceError) -> Remedy:
    """Return what may help after `error`.

    A time-out is not repeated at the same deployment, which may still be working; a refused
    credential is the operator's to mend, and another deployment has another one.
    """
    if isinstance(error, ContextLengthExceeded):
        return Remedy.LARGER
    if isinstance(error, (InvalidArgument, AnswerTooLong)):
        return Remedy.NONE
    if isinstance(error, (DeadlineExceeded, FailedPrecondition, DeploymentLimited)):
        return Remedy.ANOTHER
    if isinstance(error, (Unavailable, ProviderRateLimit)):
        return Remedy.AGAIN
    return Remedy.NONE


def delay_before_retry(
    error: ServiceError,
    attempt: int,
    seconds_left: float | None,
    uniform: Uniform = random.uniform,
) -> float | None:
    """Return the seconds before the same deployment is asked again; None: it is not.

    `attempt` counts from 1. Exponential with full jitter; a `Retry-After` is honoured up to 10 s. A
    rate limit without one is a used-up quota as often as not, and is repeated like any other.
    """
    if remedy_for(error) is not Remedy.AGAIN:
        return None
    wanted = error.retry_after_seconds
    if wanted is not None and wanted > MAX_HONOURED_SECONDS:
        return None
    ceiling = min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** (attempt - 1))
    delay = max(wanted or 0.0, uniform(0.0, ceiling))
    if seconds_left is not None and delay + LEAST_SECONDS > seconds_left:
        return None
    return delay
