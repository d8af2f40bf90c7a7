"""The load generator's HTTP client: one keep-alive connection, one exchange at a time."""

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from bench.openai_wire import stamp


class AnswerReader(Protocol):
    """Reads the body of one answer as it arrives."""

    def feed(self, data: bytes, now: int) -> None:
        """Take the next piece; `now` is its arrival as a stamp."""

    def problem(self) -> str | None:
        """Return what was wrong with the whole answer, None when it was right."""


class ClientConnection(asyncio.Protocol):
    """One connection. Callbacks instead of coroutines: they cost a fraction."""

    def __init__(self, on_idle: Callable[["ClientConnection"], None]) -> None:
        """`on_idle` is called when the connection can take a request, also the first time."""
        self.closed = False
        self._on_idle = on_idle
        self._parts: list[bytes] = []
        # httptools calls this for each piece of a body.
        self.on_body = self._parts.append
        self._parser = httptools.HttpResponseParser(self)
        self._reader: AnswerReader | None = None
        self._on_end: Callable[[str | None], None] | None = None
        self._complete = False
        self._status = 0
        self._keep_alive = False

    def send(
        self, request: bytes, reader: AnswerReader, on_end: Callable[[str | None], None]
    ) -> None:
        """Start an exchange; `on_end` is called once, with the error or None."""
        self._reader = reader
        self._on_end = on_end
        self._transport.write(request)

    def close(self) -> None:
        """Close at once; an exchange under way ends with an error."""
        if not self.closed:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Report that the connection can be used."""
        # uvloop's transports do not inherit from asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        self._on_idle(self)

    def data_received(self, data: bytes) -> None:
        """Hand the body's pieces to the reader, all of one read together."""
        now = stamp()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as problem:
            self._end(f"not HTTP: {type(problem).__name__}")
            self._transport.abort()
            return
        if self._parts:
            body = b"".join(self._parts)
            self._parts.clear()
            if self._reader is not None:
                self._reader.feed(body, now)
        if self._complete:
            self._finish_answer()

    def on_message_complete(self) -> None:
        """Note that the answer is whole; httptools calls this inside `feed_data`."""
        self._complete = True
        self._status = self._parser.get_status_code()
        self._keep_alive = self._parser.should_keep_alive()

    def connection_lost(self, exc: Exception | None) -> None:
        """End what was under way."""
        self.closed = True
        if self._on_end is not None:
            self._end("connection closed before the answer's end")

    def _finish_answer(self) -> None:
        self._complete = False
        reader = self._reader
        if self._status != 200:
            self._end(f"HTTP {self._status}")
        else:
            self._end(reader.problem() if reader is not None else "unexpected answer")
        if self._keep_alive:
            self._on_idle(self)
        else:
            self._transport.close()

    def _end(self, error: str | None) -> None:
        on_end, self._on_end, self._reader = self._on_end, None, None
        if on_end is not None:
            on_end(error)
