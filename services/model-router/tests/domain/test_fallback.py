"""What follows a failed request (D3)."""

import pytest

from meshwright_common.errors import QuotaExceeded, ServiceError
from meshwright_model_router.domain.errors import (
    AnswerTooLong,
    ContextLengthExceeded,
    DeploymentLimited,
    ProviderCredentials,
    ProviderProtocol,
    ProviderRateLimit,
    ProviderRejected,
    ProviderTimeout,
    ProviderTruncated,
    ProviderUnavailable,
)
from meshwright_model_router.domain.fallback import Remedy, delay_before_retry, remedy_for


def longest(error: ServiceError, attempt: int, left: float | None = None) -> float | None:
    return delay_before_retry(error, attempt, left, uniform=lambda _, ceiling: ceiling)


def test_pauses_double_with_full_jitter_up_to_eight_seconds() -> None:
    pauses = [longest(ProviderUnavailable(), attempt) for attempt in (1, 2, 3, 4, 5, 6)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    shortest = delay_before_retry(ProviderUnavailable(), 1, None, uniform=lambda least, _: least)
    assert shortest == 0.0


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (ProviderUnavailable(), Remedy.AGAIN),
        (ProviderTruncated(), Remedy.AGAIN),
        (ProviderProtocol(), Remedy.AGAIN),
        (ProviderRateLimit(), Remedy.AGAIN),
        (ProviderTimeout(), Remedy.ANOTHER),
        (ProviderCredentials(), Remedy.ANOTHER),
        (DeploymentLimited(deployment="d", limit="l"), Remedy.ANOTHER),
        (ContextLengthExceeded(), Remedy.LARGER),
        (ProviderRejected(), Remedy.NONE),
        (AnswerTooLong(), Remedy.NONE),
        (QuotaExceeded(used="1", limit="1", quota="tokens", plan="p"), Remedy.NONE),
    ],
)
def test_each_failure_has_its_remedy(error: ServiceError, remedy: Remedy) -> None:
    assert remedy_for(error) is remedy
    assert (longest(error, 1) is not None) is (remedy is Remedy.AGAIN)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(3.0, 3.0), (10.0, 10.0), (10.5, None), (3600, None)]
)
def test_retry_after_is_honoured_up_to_ten_seconds(seconds: float, expected: float | None) -> None:
    """F-52: 429 with Retry-After, also of an hour."""
    assert longest(ProviderRateLimit(retry_after_seconds=seconds), 1) == expected


def test_no_pause_leaves_less_than_the_time_of_a_request() -> None:
    assert longest(ProviderUnavailable(), 1, 0.59) is None
    assert longest(ProviderUnavailable(), 1, 0.61) == 0.5
