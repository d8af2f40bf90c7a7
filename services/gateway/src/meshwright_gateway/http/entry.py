"""The one ASGI application: every request enters here."""

import time
from collections.abc import Awaitable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from meshwright_common.context import bind
from meshwright_common.errors import InvalidArgument, ServiceError, Unauthenticated
from meshwright_common.identity.denials import DenialKind, Denials
from meshwright_common.telemetry import trace_context
from meshwright_common.telemetry.event_lines import EventLines
from meshwright_common.telemetry.logging import get_logger
from meshwright_common.telemetry.spans import Attribute
from meshwright_gateway.auth.credentials import Authenticator, Credential
from meshwright_gateway.errors import ClientGone, Overloaded
from meshwright_gateway.http.cors import Cors
from meshwright_gateway.http.departure import may_end, while_there
from meshwright_gateway.http.directory import EXCHANGE_KEY
from meshwright_gateway.http.exchange import API_HEADERS, Exchange
from meshwright_gateway.http.json_body import check_json_type, parse_json
from meshwright_gateway.http.routing import RawRoutes
from meshwright_gateway.limits.edge_limits import EdgeLimits
from meshwright_gateway.metrics import HTTP_SERVER_SECONDS
from meshwright_gateway.settings import GatewaySection

_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", *_WITH_BODY})
_CREDENTIALS: Final = frozenset({b"authorization", b"x-api-key", b"sec-websocket-protocol"})
_CLIENT_CLOSED: Final = 499
_SERVER_ERROR: Final = 500
_MAX_PATH: Final = 500
_access = EventLines(
    "meshwright_gateway.access",
    "http_request",
    foreign=frozenset({"method", "path", "request_id"}),
)
_logger = get_logger(__name__)


class Entry:
    """Authenticates, counts, hands to a raw route or to the framework, and tells how it went.

    `open_routes` need no credential and are never refused for being too many; `routes` and the
    framework do, and are let in by `limits`.
    """

    def __init__(
        self,
        *,
        open_routes: RawRoutes,
        routes: RawRoutes,
        framework: ASGIApp,
        authenticator: Authenticator,
        settings: GatewaySection,
        denials: Denials,
        limits: EdgeLimits,
    ) -> None:
        self._denials = denials
        self._limits = limits
        self._open_routes = open_routes
        self._routes = routes
        self._framework = framework
        self._authenticator = authenticator
        self._settings = settings
        self._cors = Cors(settings.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raises nothing that a client causes."""
        if scope["type"] != "http":
            raise ValueError(f"{scope['type']} is not served")
        exchange = Exchange(scope, receive, send)
        is_told = True
        try:
            await self._serve(exchange)
        except ClientGone:
            exchange.status = exchange.status or _CLIENT_CLOSED
        except Overloaded as error:
            # A metric counts it: a surge must not be spent on writing about each.
            is_told = False
            await self._refuse(exchange, error)
        except ServiceError as error:
            await self._refuse(exchange, error)
        # house: broad-except: the outermost frame of a request; the client learns nothing of it
        except Exception:
            _logger.exception("request_failed", request_id=exchange.request_id, path=exchange.path)
            if not exchange.status:
                await exchange.respond_internal()
            elif not exchange.complete:
                exchange.connection.abort()
        finally:
            exchange.leave_load()
            exchange.leave_place()
            if is_told:
                self._tell(exchange)
            else:
                # Told by a metric alone, as its span would be one for each of a surge.
                exchange.span.drop()

    async def _serve(self, exchange: Exchange) -> None:
        if self._cors.is_on:
            exchange.headers_out.extend(self._cors.headers(exchange))
            if exchange.method == "OPTIONS" and b"origin" in exchange.headers:
                await exchange.respond(204, b"", [*API_HEADERS, *self._cors.preflight(exchange)])
                return
        _check_host(exchange.scope["headers"])
        handler = self._open_routes.find(exchange)
        if handler is not None:
            await handler(exchange)
            return
        await self._limits.enter(exchange)
        self._limits.refuse_blocked(exchange)
        exchange.credential = credential = await self._authenticate(exchange)
        await self._limits.take(exchange, credential.principal)
        handler = self._routes.find(exchange)
        if handler is not None:
            await handler(exchange)
            return
        with bind(exchange.call_context(self._settings.request_timeout_seconds)):
            await self._pass_on(exchange)

    async def _authenticate(self, exchange: Exchange) -> Credential:
        """Return the caller; a refused login is noted. Raises as the authenticator."""
        try:
            return await self._authenticator.authenticate(
                exchange.headers, exchange.scope["headers"]
            )
        except Unauthenticated:
            await self._limits.take_unknown(exchange)
            if not _CREDENTIALS.isdisjoint(exchange.headers):
                # Nobody knows whose log it belongs to: a key that nobody has is of no tenant.
                client = exchange.scope.get("client") or ("", 0)
                self._denials.note(
                    DenialKind(
                        "login.refused", resource="http", reason="refused", address=client[0]
                    )
                )
            raise

    async def _pass_on(self, exchange: Exchange) -> None:
        """Let the framework answer, with a body that was read and checked before."""
        body = b""
        if exchange.method in _WITH_BODY:
            body = await exchange.read_body(
                self._settings.json_limit_bytes, self._settings.body_timeout_seconds
            )
            if body:
                check_json_type(
                    exchange.headers.get(b"content-type"),
                    exchange.headers.get(b"content-encoding"),
                )
                parse_json(body)
        scope = exchange.scope
        scope[EXCHANGE_KEY] = exchange
        work = self._framework(scope, _Replay(body, exchange), exchange.relay)
        if may_end(exchange):
            await while_there(exchange, _awaited(work))
        else:
            await work
        route = scope.get("route")
        exchange.route = getattr(route, "path", "")

    async def _refuse(self, exchange: Exchange, error: ServiceError) -> None:
        if exchange.status:
            # Too late for an answer, and what was sent must not look whole.
            _logger.warning("answer_broken_off", reason=error.reason, path=exchange.path)
            exchange.connection.abort()
        else:
            await exchange.respond_problem(error)

    def _tell(self, exchange: Exchange) -> None:
        seconds = time.monotonic() - exchange.started_at
        method = exchange.method if exchange.method in _METHODS else "other"
        route = exchange.route or "unknown"
        span = exchange.span
        if span.recording:
            span.name, span.shared = _span_of(method, route, exchange.status)
            if exchange.status >= _SERVER_ERROR:
                span.fail(str(exchange.status))
            span.end()
        _seconds_of(method, route, exchange.status).observe(seconds, span.exemplar)
        first_byte_at = exchange.first_byte_at or exchange.started_at
        caller = None if exchange.credential is None else exchange.credential.principal
        _access.write(
            {
                "method": exchange.method,
                "path": exchange.path[:_MAX_PATH],
                "status": exchange.status,
                "seconds": round(seconds, 6),
                "first_byte_seconds": round(first_byte_at - exchange.started_at, 6),
                "sent_bytes": exchange.sent_bytes,
                "request_id": exchange.request_id,
                "tenant_id": None if caller is None else caller.tenant_id,
                "subject": None if caller is None else caller.subject,
                **_trace_ids(exchange.traceparent),
            }
        )


def _trace_ids(traceparent: str) -> dict[str, str]:
    if not traceparent:
        return {}
    return {
        "trace_id": trace_context.trace_id(traceparent),
        "span_id": trace_context.span_id(traceparent),
    }


async def _awaited(work: Awaitable[None]) -> None:
    await work


class _Replay:
    """Gives the framework a body that was read already. An ASGI `receive`."""

    __slots__ = ("_body", "_exchange")

    def __init__(self, body: bytes, exchange: Exchange) -> None:
        self._body: bytes | None = body
        self._exchange = exchange

    async def __call__(self) -> Message:
        body, self._body = self._body, None
        if body is None:
            return await self._exchange.receive()
        return {"type": "http.request", "body": body, "more_body": False}


@lru_cache(maxsize=1024)
def _span_of(method: str, route: str, status: int) -> tuple[str, Mapping[str, Attribute]]:
    """Return the name of a request's span and what it has in common with others."""
    facts: dict[str, Attribute] = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
    }
    return f"{method} {route}", facts


@lru_cache(maxsize=1024)
def _seconds_of(method: str, route: str, status: int) -> Histogram:
    # To look it up costs more than to observe.
    return HTTP_SERVER_SECONDS.labels(method, route, status)


def _check_host(headers: Sequence[tuple[bytes, bytes]]) -> None:
    if sum(name == b"host" for name, _ in headers) > 1:
        raise InvalidArgument("more than one host header was sent")
