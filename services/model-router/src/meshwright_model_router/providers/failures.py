"""A provider's failures as the platform's errors."""

import re
import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from meshwright_common.errors import ServiceError
from meshwright_model_router.domain.errors import (
    ContextLengthExceeded,
    ProviderCredentials,
    ProviderProtocol,
    ProviderRateLimit,
    ProviderRejected,
    ProviderTimeout,
    ProviderTruncated,
    ProviderUnavailable,
)
from meshwright_model_router.domain.routing_errors import EgressRefused
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.http_client.errors import (
    AddressRefused,
    ConnectTimeout,
    Disconnected,
    NotHttp,
    RequestUnsendable,
)

MAX_MESSAGE_CHARACTERS: Final = 1000
"""Of a provider's text, this much is passed on."""
QUOTA_RETRY_SECONDS: Final = 60.0
"""A used-up quota comes back when somebody pays: longer than any call waits."""

_NOTHING_THERE: Final = frozenset({404, 405})
_PAGE: Final = "it answered with a page instead of JSON"
_REJECTED: Final = frozenset({400, 404, 405, 406, 410, 411, 413, 414, 415, 422, 451})
_CREDENTIALS: Final = frozenset({401, 402, 403})
_CONTEXT_LENGTH: Final = re.compile(
    r"context.{0,12}(length|window|limit)|maximum context|too many tokens|prompt is too long",
    re.IGNORECASE,
)
_DURATION: Final = re.compile(
    r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?"
)


class ProviderFault(msgspec.Struct):
    """OpenAI's error object, whatever of it the provider sends."""

    message: str = ""
    type: str = ""
    code: str = ""


def from_status(
    endpoint: Endpoint, status: int, headers: Mapping[str, str], body: bytes
) -> ServiceError:
    """Return the error for an answer with an error status."""
    fault = fault_in(body)
    if not fault.message:
        fault.message = f"HTTP {status}"
    return _error(endpoint, status, fault, retry_after(headers))


def from_event(endpoint: Endpoint, data: bytes) -> ServiceError:
    """Return the error for an error event inside a stream that began well."""
    fault = fault_in(data)
    status = int(fault.code) if fault.code.isdecimal() else _status_of(fault)
    return _error(endpoint, status, fault, None)


def from_connection(endpoint: Endpoint, error: OSError) -> ServiceError:
    """Return the error for a connection that failed before any answer."""
    if isinstance(error, AddressRefused):
        return EgressRefused(f"The provider of {endpoint.deployment!r}: {error}.")
    cause = _cause(error)
    return ProviderUnavailable(
        f"The provider of {endpoint.deployment!r} cannot be reached: {cause}. "
        f"Check {endpoint.base_url_setting}.",
        deployment=endpoint.deployment,
        setting=endpoint.base_url_setting,
    )


def timed_out(endpoint: Endpoint, what: str, seconds: float) -> ProviderTimeout:
    """Return the error for a limit that passed; `what` says which."""
    return ProviderTimeout(
        f"The provider of {endpoint.deployment!r} sent {what} within {seconds:g} s.",
        deployment=endpoint.deployment,
    )


def broken_protocol(endpoint: Endpoint, what: str) -> ProviderProtocol:
    """Return the error for an answer that is not OpenAI's protocol."""
    return ProviderProtocol(
        f"The provider of {endpoint.deployment!r} does not speak its protocol: {what}.",
        deployment=endpoint.deployment,
    )


def truncated(endpoint: Endpoint) -> ProviderTruncated:
    """Return the error for an answer without its end."""
    return ProviderTruncated(
        f"The provider of {endpoint.deployment!r} broke off its answer.",
        deployment=endpoint.deployment,
    )


def fault_in(body: bytes) -> ProviderFault:
    """Return what an error body says; providers disagree about its form."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = body.decode("utf-8", "replace").strip()
        # A page says nothing to a caller, and it is not ours to show.
        return ProviderFault(message=_PAGE if text.startswith("<") else _shortened(text))
    if isinstance(value, list) and value:  # Google wraps the object in a list
        value = value[0]
    inner = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(inner, dict):
        return ProviderFault(message=_shortened(str(inner)))
    message = inner.get("message") or inner.get("detail") or ""
    return ProviderFault(
        message=_shortened(str(message)),
        type=str(inner.get("type") or ""),
        code=str(inner.get("code") or ""),
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds a provider wants us to wait; None when it does not say, or unreadably."""
    if milliseconds := headers.get("retry-after-ms"):
        return _number(milliseconds, 0.001)
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    seconds = _number(value, 1.0)
    if seconds is not None:
        return seconds
    if (duration := _DURATION.fullmatch(value)) is not None:
        hours, minutes, rest = (float(part or 0) for part in duration.groups())
        return hours * 3600 + minutes * 60 + rest
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())


def _number(text: str, unit: float) -> float | None:
    try:
        value = float(text) * unit
    except ValueError:
        return None
    # Comparison, so that nan and the infinities are unreadable too.
    return value if 0 <= value <= 86_400 * 365 else None


_KINDS: Final = (
    (429, ("rate_limit", "quota")),
    (413, ("too_large",)),
    (404, ("not_found",)),
    (402, ("billing",)),
    (401, ("api_key", "authentication", "permission")),
    (400, ("invalid_request", "context_length")),
)
"""What words in the type or code of an error within a stream say: the status it would have had."""


def _status_of(fault: ProviderFault) -> int:
    said = f"{fault.type} {fault.code}".lower()
    return next((status for status, words in _KINDS if any(word in said for word in words)), 500)


def _error(
    endpoint: Endpoint, status: int, fault: ProviderFault, retry: float | None
) -> ServiceError:
    text = fault.message
    if endpoint.api_key:
        text = text.replace(endpoint.api_key, "***")
    provider = f"The provider of {endpoint.deployment!r}"
    if status == 429:
        if "quota" in f"{fault.type} {fault.code}":
            retry = QUOTA_RETRY_SECONDS
        limited = f"{provider} limits its rate: {text}"
        error: ServiceError = ProviderRateLimit(limited, retry_after_seconds=retry)
    elif status in _CREDENTIALS:
        error = ProviderCredentials(
            f"{provider} refused our credential (HTTP {status}). Check {endpoint.api_key_setting}.",
            setting=endpoint.api_key_setting,
        )
    elif status in _NOTHING_THERE and not (fault.type or fault.code.strip("0123456789")):
        # A provider names what is missing; this server does not know the path. Azure's repeats
        # the status as its code.
        error = ProviderProtocol(
            f"{provider} serves nothing at this address (HTTP {status}). "
            f"Check {endpoint.base_url_setting}.",
            setting=endpoint.base_url_setting,
        )
    elif status in _REJECTED:
        too_long = "context_length" in fault.code or _CONTEXT_LENGTH.search(text)
        error = ContextLengthExceeded(text) if too_long else ProviderRejected(text)
    elif 300 <= status < 400:
        error = ProviderUnavailable(
            f"{provider} answers with a redirection (HTTP {status}), which is not followed. "
            f"Check {endpoint.base_url_setting}.",
            setting=endpoint.base_url_setting,
        )
    else:
        failed = f"{provider} failed (HTTP {status}): {text}"
        error = ProviderUnavailable(failed, retry_after_seconds=retry)
    error.metadata |= {"deployment": endpoint.deployment, "status": str(status)}
    return error


_CAUSES: Final[tuple[tuple[tuple[type[BaseException], ...], str], ...]] = (
    ((ConnectTimeout, TimeoutError), "no connection in time"),
    ((ssl.SSLCertVerificationError,), "its TLS certificate is not accepted"),
    ((ssl.SSLError,), "TLS failed"),
    ((socket.gaierror,), "its host name cannot be resolved"),
    ((ConnectionRefusedError,), "connection refused"),
    ((Disconnected, ConnectionResetError), "it closed the connection without an answer"),
)


def _cause(error: OSError) -> str:
    if isinstance(error, NotHttp | RequestUnsendable):
        return str(error)
    for kinds, text in _CAUSES:
        if isinstance(error, kinds):
            return text
    return error.strerror.lower() if error.strerror else type(error).__name__


def _shortened(text: str) -> str:
    clean = text.encode("utf-8", "replace").decode().strip()
    if len(clean) <= MAX_MESSAGE_CHARACTERS:
        return clean
    return clean[:MAX_MESSAGE_CHARACTERS] + " …"
