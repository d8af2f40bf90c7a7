"""When a failed request is repeated (D3)."""

import pytest

from meshwright_common.errors import ServiceError
from meshwright_model_router.domain.errors import (
    ProviderCredentials,
    ProviderProtocol,
    ProviderRateLimit,
    ProviderRejected,
    ProviderTimeout,
    ProviderTruncated,
    ProviderUnavailable,
)
from meshwright_model_router.domain.fallback import delay_before_retry


def longest(error: ServiceError, attempt: int, left: float | None = None) -> float | None:
    return delay_before_retry(error, attempt, left, uniform=lambda _, ceiling: ceiling)


def test_pauses_double_with_full_jitter() -> None:
    assert [longest(ProviderUnavailable(), attempt) for attempt in (1, 2)] == [0.5, 1.0]
    shortest = delay_before_retry(ProviderUnavailable(), 1, None, uniform=lambda least, _: least)
    assert shortest == 0.0


def test_third_attempt_is_the_last() -> None:
    assert longest(ProviderUnavailable(), 3) is None


@pytest.mark.parametrize("error", [ProviderTruncated(), ProviderProtocol(), ProviderRateLimit()])
def test_what_may_pass_is_repeated(error: ServiceError) -> None:
    assert longest(error, 1) is not None


@pytest.mark.parametrize("error", [ProviderCredentials(), ProviderRejected(), ProviderTimeout()])
def test_what_will_not_pass_is_not_repeated(error: ServiceError) -> None:
    assert longest(error, 1) is None


@pytest.mark.parametrize(
    ("seconds", "expected"), [(3.0, 3.0), (10.0, 10.0), (10.5, None), (3600, None)]
)
def test_retry_after_is_honoured_up_to_ten_seconds(seconds: float, expected: float | None) -> None:
    """F-52: 429 with Retry-After, also of an hour."""
    assert longest(ProviderRateLimit(retry_after_seconds=seconds), 1) == expected


def test_no_pause_is_longer_than_what_the_caller_has() -> None:
    assert longest(ProviderUnavailable(), 1, 0.4) is None
    assert longest(ProviderUnavailable(), 1, 0.6) == 0.5
