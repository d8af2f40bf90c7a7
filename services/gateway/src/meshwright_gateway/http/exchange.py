"""One request and its answer, for handlers without a framework."""

import asyncio
import re
import time
from collections.abc import Iterable
from typing import Final

import orjson
from starlette.types import Message, Receive, Scope, Send

from meshwright_common.context import CallContext
from meshwright_common.errors import Internal, ServiceError
from meshwright_common.ids import new_id
from meshwright_common.rpc.status import INTERNAL_TEXT
from meshwright_common.telemetry import propagation, trace_context, tracing
from meshwright_common.telemetry.spans import Kind
from meshwright_gateway.auth.credentials import Credential
from meshwright_gateway.errors import BodyTooLarge, BodyTooSlow, ClientGone, misshapen
from meshwright_gateway.http.json_body import Json, check_json_type, parse_json_object
from meshwright_gateway.http.problems import JSON_TYPE, Family, Headers, Problem
from meshwright_gateway.limits.load_shedding import LoadShedding
from meshwright_gateway.limits.request_limits import Ask, RequestLimits
from meshwright_gateway.server.connection import SCOPE_KEY, ClientConnection

COMMON_HEADERS: Final[Headers] = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
API_HEADERS: Final[Headers] = [
    *COMMON_HEADERS,
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
"""Headers of every answer that is no page."""
NO_STORE: Final = (b"cache-control", b"no-store")

MAX_KEY_CHARACTERS: Final = 128
_SANE_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_IDEMPOTENCY_KEY: Final = re.compile(rb"[\x21-\x7e]{1,128}")


class Exchange:
    """A request being answered. Header names are lower-case bytes; of a repeated one the first
    counts, but `authorization` and `host`, which may not be repeated.
    """

    __slots__ = (
        "_receive",
        "_send",
        "ask",
        "complete",
        "credential",
        "family",
        "first_byte_at",
        "headers",
        "headers_out",
        "load",
        "method",
        "path",
        "request_id",
        "requests",
        "route",
        "scope",
        "sent_bytes",
        "span",
        "started_at",
        "status",
        "traceparent",
        "tracestate",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.family: Family = "openai" if self.path.startswith("/v1/") else "native"
        self.headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            self.headers.setdefault(name, value)
        self.request_id = _sane_id(self.headers.get(b"x-request-id")) or new_id()
        self.route = ""
        self.credential: Credential | None = None
        # What is given back when the exchange is over, and when its first byte leaves.
        self.ask: Ask | None = None
        self.requests: RequestLimits | None = None
        self.load: LoadShedding | None = None
        self.headers_out: Headers = [(b"x-request-id", self.request_id.encode())]
        self.status = 0
        self.complete = False
        self.sent_bytes = 0
        self.started_at = time.monotonic()
        self.traceparent = self.tracestate = ""
        if b"traceparent" in self.headers:
            self._take_trace()
        # Renamed when the route is known.
        self.span = tracing.begin_trace(
            "http_request", Kind.SERVER, self.traceparent, obey=propagation.obeys_callers()
        )
        if self.span.traceparent:
            self.traceparent = self.span.traceparent
            self.headers_out.append((b"traceresponse", self.traceparent.encode()))
        self.first_byte_at: float | None = None

    # --- the request -----------------------------------------------------------------------------

    @property
    def connection(self) -> ClientConnection:
        """What carries the exchange."""
        connection: ClientConnection = self.scope["extensions"][SCOPE_KEY]
        return connection

    def call_context(self, seconds: float | None) -> CallContext:
        """Return the context of calls made for this request; None: each call has its own limit."""
        return CallContext(
            principal=None if self.credential is None else self.credential.principal,
            deadline=None if seconds is None else time.monotonic() + seconds,
            request_id=self.request_id,
            correlation_id=_sane_id(self.headers.get(b"x-correlation-id")) or self.request_id,
            traceparent=self.traceparent,
            tracestate=self.tracestate,
        )

    def _take_trace(self) -> None:
        """Take the caller's trace, if it is one. What is beside it as baggage stays outside."""
        traceparent = self.headers[b"traceparent"].decode("latin-1")
        if not trace_context.is_traceparent(traceparent):
            return
        self.traceparent = traceparent
        tracestate = self.headers.get(b"tracestate", b"").decode("latin-1")
        if trace_context.is_tracestate(tracestate):
            self.tracestate = tracestate

    def idempotency_key(self) -> str:
        """Return the Idempotency-Key; empty: none. Raises: ShapeRefused."""
        key = self.headers.get(b"idempotency-key")
        if key is None:
            return ""
        if not _IDEMPOTENCY_KEY.fullmatch(key):
            raise misshapen(
                "Idempotency-Key", f"must be 1 to {MAX_KEY_CHARACTERS} visible ASCII characters"
            )
        return key.decode("ascii")

    async def receive(self) -> Message:
        """Return the next message of the server; after the body that is the client's leaving."""
        return await self._receive()

    async def read_body(self, limit_bytes: int, timeout_seconds: float) -> bytes:
        """Return the whole body. Raises: BodyTooLarge, BodyTooSlow, ClientGone."""
        length = self.headers.get(b"content-length")
        if length is not None and int(length) > limit_bytes:
            raise BodyTooLarge(limit_bytes=str(limit_bytes))
        if self.connection.sends_body:
            # Whoever sends slowly must not keep others out.
            self.leave_load()
        body, more = await self._piece()
        if more:
            pieces = [body]
            size = len(body)
            try:
                async with asyncio.timeout(timeout_seconds):
                    while more and size <= limit_bytes:
                        body, more = await self._piece()
                        pieces.append(body)
                        size += len(body)
            except TimeoutError:
                raise BodyTooSlow(seconds=f"{timeout_seconds:g}") from None
            body = b"".join(pieces)
        if len(body) > limit_bytes:
            raise BodyTooLarge(limit_bytes=str(limit_bytes))
        return body

    async def read_json_object(self, limit_bytes: int, timeout_seconds: float) -> dict[str, Json]:
        """Return the body as a JSON object. Raises: as `read_body` and `parse_json_object`."""
        check_json_type(self.headers.get(b"content-type"), self.headers.get(b"content-encoding"))
        return parse_json_object(await self.read_body(limit_bytes, timeout_seconds))

    async def _piece(self) -> tuple[bytes, bool]:
        message = await self._receive()
        if message["type"] != "http.request":
            raise ClientGone
        return message.get("body", b""), message.get("more_body", False)

    # --- the answer ------------------------------------------------------------------------------

    async def start(
        self, status: int, headers: Iterable[tuple[bytes, bytes]], *, body_follows: bool = False
    ) -> None:
        """Send the head of the answer; with `body_follows` it leaves with what is sent next."""
        self._begin(status)
        if body_follows:
            self._hold_head()
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [*headers, *self.headers_out],
            }
        )

    def _hold_head(self) -> None:
        # No body follows the head that HEAD is answered with.
        if self.method != "HEAD":
            self.connection.hold_head()

    def _begin(self, status: int) -> None:
        self.status = status
        self.leave_load()
        self.first_byte_at = time.monotonic()
        self.span.answered()
        if self.family == "openai":
            milliseconds = round((self.first_byte_at - self.started_at) * 1000)
            self.headers_out.append((b"openai-processing-ms", str(milliseconds).encode()))

    def leave_place(self) -> None:
        """The user's place among concurrent requests is free, though the answer may go on."""
        ask, self.ask = self.ask, None
        if ask is not None and self.requests is not None:
            self.requests.leave(ask)

    def leave_load(self) -> None:
        """Count no longer among the requests that nothing was answered to."""
        load, self.load = self.load, None
        if load is not None:
            load.leave()

    async def write(self, data: bytes) -> None:
        """Send a piece of the body; waits while the client does not keep up."""
        self.sent_bytes += len(data)
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes = b"") -> None:
        """Send the last piece of the body."""
        self.sent_bytes += len(data)
        self.complete = True
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    def switched(self, status: int) -> None:
        """The answer was `status`, and the connection is no longer HTTP's."""
        self._begin(status)
        self.complete = True

    async def respond(
        self, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]]
    ) -> None:
        """Send a whole answer."""
        length = (b"content-length", str(len(body)).encode())
        await self.start(status, [*headers, length], body_follows=True)
        await self.finish(body)

    async def respond_json(self, status: int, content: object) -> None:
        """Send `content` as JSON."""
        headers = [(b"content-type", JSON_TYPE), *API_HEADERS, NO_STORE]
        await self.respond(status, orjson.dumps(content), headers)

    async def respond_problem(self, error: ServiceError) -> None:
        """Send an error in the shape of the route's family."""
        problem = Problem.of(error, self.request_id)
        headers = [*problem.headers(self.family), *API_HEADERS, NO_STORE]
        status = problem.status_for(self.family)
        await self.respond(status, problem.body(self.family, self.path), headers)

    async def respond_internal(self) -> None:
        """Send the answer for a defect of ours."""
        await self.respond_problem(Internal(INTERNAL_TEXT))

    async def relay(self, message: Message) -> None:
        """Send a framework's message, with our headers added. An ASGI `send`."""
        if message["type"] == "http.response.start":
            self._begin(message["status"])
            headers = message.get("headers", ())
            if any(name == b"content-length" for name, _ in headers):
                # An answer in one piece: it is there.
                self._hold_head()
            message["headers"] = [*headers, *API_HEADERS, NO_STORE, *self.headers_out]
        else:
            self.sent_bytes += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
        await self._send(message)


def _sane_id(value: bytes | None) -> str:
    if value is None or not _SANE_ID.fullmatch(value):
        return ""
    return value.decode("ascii")
