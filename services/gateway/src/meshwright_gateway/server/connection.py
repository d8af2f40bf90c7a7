"""uvicorn's HTTP/1.1 connection, with the limits that it lacks.

uvicorn waits for ever for a header, for a body and for a reader, and takes headers of any size.
Here each of them has a bound. Nothing is armed per request: the server looks at every connection
once a second (`check`).
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any, Final, Protocol

import httptools
import orjson
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

SCOPE_KEY: Final = "meshwright.connection"
"""Where the application finds the connection: `scope["extensions"][SCOPE_KEY]`."""

TCP_NOTSENT_LOWAT: Final = getattr(socket, "TCP_NOTSENT_LOWAT", 25)
"""Python names it from 3.12 on; the number is Linux's."""

_MAX_HEADERS: Final = 100
_WRITE_BUFFER_BYTES: Final = 16 * 1024
"""What may wait to be sent before the application has to."""
_RATE_WINDOW_SECONDS: Final = 5.0
_LINGER_SECONDS: Final = 5.0
"""For a client that still sends what was answered already, so that it gets to read the answer."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Bounds of one connection; see the settings of the same names."""

    max_connections: int
    header_limit_bytes: int
    header_timeout_seconds: float
    body_min_bytes_per_second: int
    slow_reader_seconds: float


class ClientConnection(Protocol):
    """What an application may ask of the connection that it answers on."""

    @property
    def is_writable(self) -> bool:
        """Whether a small write would leave at once."""
        ...

    @property
    def sends_body(self) -> bool:
        """Whether a part of the request's body has still to come."""
        ...

    def hold_head(self) -> None:
        """Let the head that is sent next leave with the first piece of its body, which has to
        follow at once.
        """
        ...

    def abort(self) -> None:
        """Break the connection, so that what was sent cannot be taken for the whole."""
        ...

    def on_gone(self, callback: Callable[[], None] | None) -> None:
        """Call `callback` soon after the client has left, at once if it has; None: no longer.

        The body of the request has to be read before.
        """
        ...

    async def drain(self) -> None:
        """Wait until what was written has left, or the client has."""
        ...


class _Outgoing:
    """The transport as an exchange sees it: what was held leaves with what is written next.

    Each write of a transport is a call of the system, and often a packet, of its own.
    """

    __slots__ = ("_held", "_transport", "close", "holds_next", "is_closing")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held = b""
        self.holds_next = False
        self.close, self.is_closing = transport.close, transport.is_closing

    def write(self, data: bytes) -> None:
        if self.holds_next:
            self.holds_next = False
            self._held = data
            return
        if self._held:
            data, self._held = self._held + data, b""
        self._transport.write(data)


class _Reading(Enum):
    NOTHING = "nothing"
    HEAD = "head"
    BODY = "body"


class GuardedConnection(HttpToolsProtocol):
    """One HTTP/1.1 connection. Raises nothing; who breaks a limit gets 4xx and is closed."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: ConnectionLimits,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._reading = _Reading.NOTHING
        self._since = 0.0
        self._head_bytes = 0
        self._header_bytes = 0
        self._body_bytes = 0
        self._answered_at: float | None = None
        self._write_paused_at: float | None = None
        self._closing_at: float | None = None
        self._refused_at: float | None = None
        self._refusal: tuple[HTTPStatus, str] | None = None
        self._gone: Callable[[], None] | None = None
        self._outgoing: _Outgoing  # since the connection was made

    @property
    def is_writable(self) -> bool:
        """Whether a small write would leave at once."""
        return not self.flow.write_paused

    @property
    def sends_body(self) -> bool:
        """Whether a part of the request's body has still to come."""
        return self._reading is _Reading.BODY

    def hold_head(self) -> None:
        """As `ClientConnection`."""
        self._outgoing.holds_next = True

    def abort(self) -> None:
        """Break the connection, so that what was sent cannot be taken for the whole."""
        self.transport.abort()

    def on_gone(self, callback: Callable[[], None] | None) -> None:
        """As `ClientConnection`: what `receive` of ASGI tells, without a task that waits for it."""
        self._gone = callback
        if callback is None:
            return
        # A client that leaves is noticed by reading.
        self.flow.resume_reading()
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.disconnected:
            self._tell_gone()

    async def drain(self) -> None:
        """As `ClientConnection`."""
        await self.flow.drain()

    def _tell_gone(self) -> None:
        if self._gone is not None:
            self.loop.call_soon(self._gone)
            self._gone = None

    # --- what arrives ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._outgoing = _Outgoing(transport)
        # A reader counts as busy as soon as the system takes no more for it, not 64 KiB later:
        # tokens that wait are merged, and what waits here is not in the system's buffers.
        transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES, low=0)
        if (listener := transport.get_extra_info("socket")) is not None:
            with contextlib.suppress(OSError):
                listener.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, _WRITE_BUFFER_BYTES)
        self._expect_head()
        if len(self.connections) > self._limits.max_connections:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._tell_gone()

    def data_received(self, data: bytes) -> None:
        if self._refused_at is not None or self.transport.is_closing():
            return
        if self._reading is _Reading.NOTHING:
            self._expect_head()
        began_before = self._reading is _Reading.HEAD
        if self._reading is _Reading.BODY:
            self._body_bytes += len(data)
        super().data_received(data)
        if began_before and self._reading is _Reading.HEAD and self._refused_at is None:
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.header_limit_bytes:
                self._refuse_head()

    def _expect_head(self) -> None:
        self._reading = _Reading.HEAD
        self._since = self.loop.time()
        self._head_bytes = 0

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = 0
        self._expect_head()
        # The type wants dictionaries; the specification lets a server put in what it likes.
        self.scope["extensions"] = {SCOPE_KEY: self}  # type: ignore[dict-item]

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self._limits.header_limit_bytes:
            self._break_off(HTTPStatus.REQUEST_URI_TOO_LONG, "the path is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._header_bytes += len(name) + len(value) + 4
        if len(self.headers) > _MAX_HEADERS:
            self._break_off(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"more than {_MAX_HEADERS} headers"
            )

    def on_headers_complete(self) -> None:
        if len(self.url) + self._header_bytes > self._limits.header_limit_bytes:
            self._break_off(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, self._head_text())
        self._reading = _Reading.BODY
        self._since = self.loop.time()
        self._body_bytes = 0
        self._answered_at = None
        super().on_headers_complete()
        self.cycle.transport = self._outgoing  # type: ignore[assignment]

    def on_message_complete(self) -> None:
        self._reading = _Reading.NOTHING
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._reading is _Reading.BODY:
            self._answered_at = self.loop.time()
        super().on_response_complete()

    # --- what leaves -----------------------------------------------------------------------------

    def pause_writing(self) -> None:
        self._write_paused_at = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._write_paused_at = None
        super().resume_writing()

    # --- once a second ---------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """End the connection if its client takes too long. `now` is the loop's time."""
        if self._refused_at is not None:
            if now - self._refused_at > _LINGER_SECONDS:
                self.transport.abort()
        elif self.transport.is_closing():
            # What is still to be written keeps it open.
            self._closing_at = self._closing_at or now
            self._abort_if_stuck(self._closing_at, now)
        elif self._write_paused_at is not None:
            self._abort_if_stuck(self._write_paused_at, now)
        elif self._reading is _Reading.HEAD:
            if now - self._since > self._limits.header_timeout_seconds:
                self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the headers did not arrive in time")
        elif self._reading is _Reading.BODY:
            self._check_body(now)

    def _check_body(self, now: float) -> None:
        if self._answered_at is not None:
            if now - self._answered_at > _LINGER_SECONDS:
                self.transport.abort()
        elif self.flow.read_paused:
            # The application holds the client back, not the other way round.
            self._since, self._body_bytes = now, 0
        elif now - self._since > _RATE_WINDOW_SECONDS:
            if self._body_bytes < self._limits.body_min_bytes_per_second * (now - self._since):
                self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the body arrives too slowly")
            self._since, self._body_bytes = now, 0

    def _abort_if_stuck(self, since: float, now: float) -> None:
        if now - since > self._limits.slow_reader_seconds:
            self.transport.abort()

    # --- refusals --------------------------------------------------------------------------------

    def _head_text(self) -> str:
        return f"the headers are over the limit of {self._limits.header_limit_bytes} bytes"

    def _refuse_head(self) -> None:
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, self._head_text())

    def _break_off(self, status: HTTPStatus, detail: str) -> None:
        """Leave the parser, which then asks for `send_400_response`."""
        self._refusal = (status, detail)
        raise httptools.HttpParserError(detail)

    def send_400_response(self, msg: str) -> None:
        self._refuse(*(self._refusal or (HTTPStatus.BAD_REQUEST, "this is not HTTP/1.1")))

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer by hand, if nothing was answered yet, and close."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            # The application learns that its client has gone.
            started = cycle.response_started
            cycle.disconnected = True
            cycle.message_event.set()
            self._tell_gone()
            if started or self.pipeline:
                self.transport.abort()
                return
        problem = {
            "type": "about:blank",
            "title": status.phrase,
            "status": status.value,
            "detail": detail,
            "code": "INVALID_ARGUMENT"
            if status < HTTPStatus.INTERNAL_SERVER_ERROR
            else "UNAVAILABLE",
        }
        body = orjson.dumps(problem)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nx-content-type-options: nosniff\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        # Closed only for writing: to close a connection while data of the client comes in would
        # reset it, and the client would never read the answer.
        self.transport.write_eof()
        self._refused_at = self.loop.time()
