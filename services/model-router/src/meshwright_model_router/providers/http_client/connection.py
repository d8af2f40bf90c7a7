"""One connection to a server: one request at a time, its answer parsed as it comes in."""

import asyncio
import select
from typing import Final, Protocol, cast

import httptools

from meshwright_model_router.providers.http_client.answer import Answer, Body
from meshwright_model_router.providers.http_client.errors import (
    Disconnected,
    HeadTimeout,
    NotHttp,
    NotSent,
    Truncated,
)

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_HEADERS: Final = 256
END_SECONDS: Final = 1.0
"""How long the end of a body may be late that was read to its last event."""
_LOOK_AFTER_SECONDS: Final = 0.05
"""A connection that was idle for longer is looked at before it is used."""
_JOINED_BYTES: Final = 64 * 1024
"""A body of up to this size leaves in one write with its head."""
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


class Owner(Protocol):
    """Who gets a connection back."""

    def freed(self, connection: "Connection") -> None:
        """The connection can take the next request."""
        ...

    def lost(self, connection: "Connection") -> None:
        """The connection is closed."""
        ...


class Connection(asyncio.Protocol):
    """A connection that `owner` handed out, or keeps for the next request."""

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._pieces: list[bytes] = []
        """Of the body, what the read at hand brought."""
        # The parser calls it for each chunk: nothing of ours runs in between.
        self.on_body = self._pieces.append
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._poll: select.poll | None = None
        self._aborted = False
        self._idle = True
        self.idle_since = 0.0
        self.requests = 0
        self._expect_answer()

    def _expect_answer(self) -> None:
        self._head: asyncio.Future[Answer] | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._end_timer: asyncio.TimerHandle | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._received = False
        self._framed = False
        self._interim = False
        self._body: Body | None = None
        self._complete = False
        self._reusable = False
        self._released = False

    # --- what the owner and the client do --------------------------------------------------------

    def is_usable(self) -> bool:
        """Return whether the server still holds the idle connection, as far as can be known."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        if self._loop.time() - self.idle_since < _LOOK_AFTER_SECONDS:
            return True
        if self._poll is None:
            self._poll = select.poll()
            number = transport.get_extra_info("socket").fileno()
            self._poll.register(number, select.POLLIN | select.POLLRDHUP)
        # Whatever an idle connection has to say, it is not what we are going to ask.
        return not self._poll.poll(0)

    async def exchange(self, request: bytes, body: bytes, seconds: float) -> Answer:
        """Send a request and return its answer once the head is there.

        Raises: HeadTimeout after `seconds`; Disconnected, NotSent, NotHttp, OSError.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise NotSent("the connection was closed")
        self.requests += 1
        self._idle = False
        self._expect_answer()
        head: asyncio.Future[Answer] = self._loop.create_future()
        self._head = head
        self._head_timer = self._loop.call_later(seconds, self._head_late)
        if len(body) <= _JOINED_BYTES:
            transport.write(request + body)
        else:
            transport.write(request)
            transport.write(body)
        try:
            return await head
        except BaseException:
            self.abort()
            raise
        finally:
            self._head_timer.cancel()

    def abort(self) -> None:
        """Close now, without waiting for anybody."""
        self._aborted = True
        if self._transport is not None:
            self._transport.abort()

    def release(self, body: Body, *, at_its_end: bool) -> None:
        """As `Source`."""
        if self._released or body is not self._body:
            return
        self._released = True
        if self._complete:
            self._finish()
        elif at_its_end and self._transport is not None:
            self._end_timer = self._loop.call_later(END_SECONDS, self.abort)
        else:
            self.abort()

    def _finish(self) -> None:
        transport = self._transport
        if self._reusable and transport is not None and not transport.is_closing():
            self._body = None
            self._idle = True
            self.idle_since = self._loop.time()
            self._owner.freed(self)
        else:
            self.abort()

    def _head_late(self) -> None:
        if self._head is not None and not self._head.done():
            self._head.set_exception(HeadTimeout())

    # --- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports do not inherit from asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Parse; what is no answer ends the connection."""
        parser = self._parser
        if parser is None:
            return
        if self._idle:
            # Nothing was asked: a notice that the server closes, or worse.
            self.abort()
            return
        self._received = True
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._feed()
            if not self._complete:
                self._fail(NotHttp(f"its answer is not HTTP/1.1 ({error})"))
            self._reusable = False
            self.abort()
            return
        self._feed()
        if self._body is None and not self._complete:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES or len(self._headers) > MAX_HEADERS:
                self._fail(NotHttp(f"the head of its answer is over {MAX_HEAD_BYTES} bytes"))
                self.abort()
        elif self._released and self._complete and self._end_timer is not None:
            self._end_timer.cancel()
            self._end_timer = None
            self._finish()

    def eof_received(self) -> bool:
        """Let the transport close; `connection_lost` follows."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits, then the owner."""
        if self._end_timer is not None:
            self._end_timer.cancel()
        whole = exc is None and not (self._framed or self._aborted)
        if self._body is not None and not self._complete and whole:
            # Without a length, the end of the connection is the end of the body.
            self._complete = True
            self._body.end()
        elif not self._complete:
            self._fail(self._loss(exc))
        self._transport = None
        self._parser = None
        self._reusable = False
        self._owner.lost(self)

    def pause_reading(self) -> None:
        """As `Source`."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """As `Source`."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _loss(self, exc: Exception | None) -> OSError:
        if self._body is not None:
            return Truncated("the connection closed before the body's end")
        if isinstance(exc, BrokenPipeError) and not self._received:
            return NotSent("the connection was closed")
        return Disconnected("the connection was closed without an answer")

    def _feed(self) -> None:
        """Give the body what came."""
        pieces = self._pieces
        if pieces:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            if self._body is not None and not self._complete:
                self._body.feed(data)

    def _fail(self, error: BaseException) -> None:
        if self._body is not None:
            self._body.end(error)
        elif self._head is not None and not self._head.done():
            self._head.set_exception(error)

    # --- httptools -------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A second answer to one request makes the connection unusable."""
        if self._complete:
            self._reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; what follows a body are trailers, which nobody reads."""
        if self._body is None:
            self._headers.append((name, value))
            if not self._framed and name.lower() in _FRAMING:
                self._framed = True

    def on_headers_complete(self) -> None:
        """Give the answer to whoever waits for it."""
        parser, head = self._parser, self._head
        if parser is None or self._complete:
            return
        status = parser.get_status_code()
        if status < 200:
            self._interim, self._headers, self._framed = True, [], False
            return
        self._body = Body(self, self._loop)
        if head is None or head.done():
            # Nobody asked, or whoever asked has left.
            self.abort()
            return
        head.set_result(Answer(status, self._headers, self._body, self))

    def on_message_complete(self) -> None:
        """End the body."""
        if self._interim:
            self._interim = False
            return
        if self._body is None or self._parser is None or self._complete:
            return
        self._feed()
        self._complete = True
        self._reusable = self._parser.should_keep_alive()
        self._body.end()
