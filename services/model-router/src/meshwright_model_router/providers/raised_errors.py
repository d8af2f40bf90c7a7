"""What a provider's own Python client raises, as the platform's errors."""

from typing import Any, Final

import msgspec

from meshwright_common.errors import ServiceError
from meshwright_model_router.domain.errors import ProviderUnavailable
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.failures import (
    broken_protocol,
    from_status,
    timed_out,
    truncated,
)

_TIMEOUT: Final = "timeout"


def from_exception(
    endpoint: Endpoint, error: Exception, *, under_way: bool = False
) -> ServiceError:
    """Return the error for whatever a client raised; `under_way`: after output had come.

    Clients of HTTP services have the status on their errors, or on the response they keep there.
    Of other errors only the kind is told: their texts may hold what was sent.
    """
    if isinstance(error, ServiceError):
        return error
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
    if isinstance(status, int) and status >= 300:
        headers = getattr(response, "headers", None) or {}
        told = {"message": str(error), "code": str(getattr(error, "code", None) or "")}
        body = msgspec.json.encode({"error": told | _kind(error)})
        return from_status(endpoint, status, headers, body)
    name = type(error).__name__
    if isinstance(error, TimeoutError) or _TIMEOUT in name.lower():
        return timed_out(endpoint, "no answer", endpoint.timeouts.first_byte)
    if under_way:
        return truncated(endpoint)
    if isinstance(error, OSError) or "connect" in name.lower():
        return ProviderUnavailable(
            f"The provider of {endpoint.deployment!r} cannot be reached: {name}.",
            deployment=endpoint.deployment,
        )
    return broken_protocol(endpoint, f"its client raised {name}")


def _kind(error: Exception) -> dict[str, Any]:
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else None
    if not isinstance(inner, dict):
        return {}
    return {name: str(inner[name]) for name in ("message", "type", "code") if inner.get(name)}
