"""Web pages of other origins: refused, but for an exact list."""

from collections.abc import Sequence
from typing import Final

from meshwright_gateway.http.exchange import Exchange
from meshwright_gateway.http.problems import Headers

_VARY: Final = (b"vary", b"origin")
_EXPOSED: Final = (
    b"access-control-expose-headers",
    b"x-request-id, content-location, location, retry-after, x-cache, age, "
    b"x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
    b"traceresponse",
)
_PREFLIGHT: Final[Headers] = [
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"),
    (
        b"access-control-allow-headers",
        b"authorization, content-type, idempotency-key, last-event-id, x-api-key, x-request-id, "
        b"x-meshwright-cache, x-priority, traceparent, tracestate",
    ),
    (b"access-control-max-age", b"600"),
]


class Cors:
    """Answers for origins that are on the list. Cookies are never part of it."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    @property
    def is_on(self) -> bool:
        """Whether any origin is on the list."""
        return bool(self._origins)

    def headers(self, exchange: Exchange) -> Headers:
        """Return what every answer says to the origin of the request."""
        origin = exchange.headers.get(b"origin")
        if origin is None or origin not in self._origins:
            return [_VARY]
        return [_VARY, (b"access-control-allow-origin", origin), _EXPOSED]

    def preflight(self, exchange: Exchange) -> Headers:
        """Return what a browser may send; nothing for other origins."""
        return _PREFLIGHT if exchange.headers.get(b"origin") in self._origins else []
