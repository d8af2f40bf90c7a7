"""Provider failures as our errors: forms of error bodies, Retry-After, the key never shown."""

import pytest

from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.failures import (
    fault_in,
    from_event,
    from_status,
    retry_after,
)

ENDPOINT = Endpoint(deployment="m", base_url="http://127.0.0.1/v1", api_key="sk-secret")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "1m30s"}, 90.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_retry_after_is_read_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"message":"no","type":"t","code":"c"}}', "no"),
        (b'{"error":"no"}', "no"),
        (b'{"message":"no","object":"error"}', "no"),
        (b'{"detail":"no"}', "no"),
        (b'[{"error":{"message":"no","code":400}}]', "no"),
        (b"no", "no"),
        (b"", ""),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"null", "None"),
        (b"{}", ""),
    ],
)
def test_message_is_found_in_every_form_of_body(body: bytes, message: str) -> None:
    assert fault_in(body).message == message


def test_long_message_is_shortened() -> None:
    assert len(fault_in(b'{"error":"' + b"x" * 50_000 + b'"}').message) < 1100


def test_key_that_a_provider_echoes_is_hidden() -> None:
    body = b'{"error":{"message":"bad model for sk-secret"}}'
    assert "sk-secret" not in from_status(ENDPOINT, 400, {}, body).message


def test_context_length_has_its_own_reason() -> None:
    by_code = b'{"error":{"message":"too long","code":"context_length_exceeded"}}'
    by_text = b'{"error":{"message":"This model\'s maximum context length is 8192 tokens"}}'
    for body in (by_code, by_text):
        assert from_status(ENDPOINT, 400, {}, body).reason == "CONTEXT_LENGTH_EXCEEDED"


def test_used_up_quota_is_not_worth_a_short_wait() -> None:
    body = b'{"error":{"message":"pay","type":"insufficient_quota","code":"insufficient_quota"}}'
    error = from_status(ENDPOINT, 429, {"retry-after": "1"}, body)
    assert error.reason == "PROVIDER_RATE_LIMIT"
    assert error.retry_after_seconds is not None
    assert error.retry_after_seconds > 10


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"error":{"message":"x","code":429}}', "PROVIDER_RATE_LIMIT"),
        (b'{"error":{"message":"x","type":"rate_limit_exceeded"}}', "PROVIDER_RATE_LIMIT"),
        (b'{"error":{"message":"x","type":"invalid_request_error"}}', "PROVIDER_REJECTED"),
        (b'{"error":{"message":"x","type":"server_error"}}', "PROVIDER_UNAVAILABLE"),
        (b'{"error":{"message":"x"}}', "PROVIDER_UNAVAILABLE"),
    ],
)
def test_error_event_becomes_its_reason(data: bytes, reason: str) -> None:
    assert from_event(ENDPOINT, data).reason == reason
