"""Sends one streamed answer in its own time, with the faults of its plan."""

import asyncio
import socket
import struct
from collections.abc import Callable

from bench.answers import Answer
from bench.directives import Cut, ReplyPlan
from bench.malformed import DamagedStream
from bench.openai_wire import stamp, token

RESET_DELAY_SECONDS = 0.02
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncache-control: no-cache\r\n%b"
_HEAD_END = b"transfer-encoding: chunked\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


def http_chunk(data: bytes) -> bytes:
    """Return the data as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def stream_head(content_type: bytes, content_encoding: bytes = b"") -> bytes:
    """Return the head of a chunked answer."""
    encoding = b"content-encoding: %b\r\n" % content_encoding if content_encoding else b""
    return _HEAD % (content_type, encoding) + _HEAD_END


def reset_connection(transport: asyncio.Transport) -> None:
    """Close with RST instead of FIN."""
    sock: socket.socket = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Emission:
    """One streamed answer under way. `sent` counts its tokens.

    `closed_by_plan` turns true when the plan itself cuts the connection.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        answer: Answer,
        plan: ReplyPlan,
        finished: Callable[["Emission"], None],
    ) -> None:
        """`finished` is called once when the whole answer was written."""
        self.sent = 0
        self.closed_by_plan = False
        self._transport = transport
        self._answer = answer
        self._plan = plan
        self._finished = finished
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        self._began = 0.0
        self._paused = False
        self._end = answer.length
        if plan.cut is not None:
            self._end = min(self._end, plan.cut_after)
        before, after = answer.token_event()
        size = len(before) + len(token(0)) + len(after)
        self._frame = (b"%x\r\n%b" % (size, before), after + b"\r\n")

    def start(self) -> None:
        """Begin after the plan's first-token delay."""
        delay = self._plan.first_token_ms / 1000
        if delay:
            self._timer = self._loop.call_later(delay, self._open)
        else:
            self._open()

    def pause(self) -> None:
        """The reader is slow: send nothing until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """The reader takes more."""
        self._paused = False
        if self._timer is None:
            self._step()

    def cancel(self) -> None:
        """Send nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._paused = True

    def _open(self) -> None:
        self._began = self._loop.time()
        self._step(stream_head(b"text/event-stream; charset=utf-8"), self._answer.opening())

    def _step(self, head: bytes = b"", opening: bytes = b"") -> None:
        self._timer = None
        count = min(self._due(), self._end) - self.sent
        data = [head, http_chunk(opening) if opening else b""]
        if count > 0:
            data.append(self._pieces(count))
            self.sent += count
        if self.sent >= self._end:
            self._close(data)
            return
        self._transport.write(b"".join(data))
        self._schedule()

    def _due(self) -> int:
        """Return how many tokens should have left by now."""
        plan = self._plan
        if not plan.tokens_per_second:
            return self.sent + plan.burst
        elapsed = self._loop.time() - self._began
        # The clock may stand a hair before the time that the timer was set for.
        bursts = int(elapsed * plan.tokens_per_second / plan.burst + 1e-3)
        return (bursts + 1) * plan.burst

    def _schedule(self) -> None:
        if self._paused:
            return
        plan = self._plan
        if plan.tokens_per_second:
            at = self._began + self.sent / plan.tokens_per_second
            self._timer = self._loop.call_at(at, self._step)
        else:
            self._timer = self._loop.call_soon(self._step)

    def _pieces(self, count: int) -> bytes:
        if self._answer.pieces:
            pieces = self._answer.pieces[self.sent : self.sent + count]
            return b"".join(map(http_chunk, pieces))
        if self._answer.usage_in_chunks:
            numbers = range(self.sent + 1, self.sent + count + 1)
            return b"".join(http_chunk(self._answer.counted_event(one)) for one in numbers)
        before, after = self._frame
        return (before + token(stamp()) + after) * count

    def _close(self, data: list[bytes]) -> None:
        """Write what is left together with the end that the plan wants."""
        transport, cut = self._transport, self._plan.cut
        if cut is None:
            data += [http_chunk(self._answer.closing()), _LAST_CHUNK]
        elif cut is Cut.NODONE:
            data.append(_LAST_CHUNK)
        elif cut is Cut.FAULT:
            data += [http_chunk(self._answer.fault()), _LAST_CHUNK]
        transport.write(b"".join(data))
        if cut is Cut.STALL:
            return
        self.closed_by_plan = cut in (Cut.TRUNCATE, Cut.RESET)
        if cut is Cut.TRUNCATE:
            transport.close()
        elif cut is Cut.RESET:
            # A reset throws away what the other side has not read yet: let it read first.
            self._timer = self._loop.call_later(RESET_DELAY_SECONDS, reset_connection, transport)
        else:
            self._finished(self)


class DamagedEmission:
    """Sends a damaged stream, one write per turn of the event loop."""

    def __init__(
        self,
        transport: asyncio.Transport,
        stream: DamagedStream,
        finished: Callable[["DamagedEmission"], None],
    ) -> None:
        """`finished` is called once when everything was written."""
        self.sent = 0
        self.closed_by_plan = False
        self._transport = transport
        self._writes = iter(stream.writes)
        self._pause_seconds = stream.pause_seconds
        self._head = stream_head(stream.content_type, stream.content_encoding)
        self._finished = finished
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        self._paused = False

    def start(self) -> None:
        """Begin at once."""
        self._transport.write(self._head)
        self._step()

    def pause(self) -> None:
        """The reader is slow: send nothing until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """The reader takes more."""
        self._paused = False
        if self._timer is None:
            self._step()

    def cancel(self) -> None:
        """Send nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._paused = True

    def _step(self) -> None:
        self._timer = None
        data = next(self._writes, None)
        if data is None:
            self._transport.write(_LAST_CHUNK)
            self._finished(self)
            return
        self._transport.write(http_chunk(data))
        if self._pause_seconds:
            self._timer = self._loop.call_later(self._pause_seconds, self._step)
        elif not self._paused:
            self._timer = self._loop.call_soon(self._step)
