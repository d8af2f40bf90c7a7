"""One WebSocket (RFC 6455) on a connection of ours: whole messages in, whole messages out.

Frames, masking, fragments, limits and the closing handshake are `websockets`' sans-I/O protocol.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from meshwright_gateway.errors import ClientGone
from meshwright_gateway.http.exchange import Exchange
from meshwright_gateway.server.upgrade import UpgradableConnection

MOST_WAITING: Final = 16
"""Messages that have come and were not looked at; then nothing more is read."""
MOST_WAITING_BYTES: Final = 1024 * 1024
"""The same for what they hold together."""


class SocketWire:
    """Sends and receives the messages of a socket that is open."""

    def __init__(
        self,
        protocol: ServerProtocol,
        exchange: Exchange,
        connection: UpgradableConnection,
        *,
        ping_seconds: float,
        silence_seconds: float,
    ) -> None:
        self._protocol = protocol
        self._exchange = exchange
        self._connection = connection
        self._ping_seconds = ping_seconds
        self._silence_seconds = silence_seconds
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._pinged_at = self._loop.time()
        self._partial = bytearray()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._news = asyncio.Event()
        self._turn = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        """Whether messages may still go in both directions."""
        return self._protocol.state is OPEN

    def open(self, head: bytes) -> None:
        """Take the connection over."""
        self._connection.upgrade(head, self)

    # --- what arrives ----------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """As `Upgraded`."""
        self._heard_at = self._loop.time()
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take(event)
        self._flush()

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.BINARY:
            self.fail(CloseCode.UNSUPPORTED_DATA, "messages are JSON in text frames")
        elif frame.opcode in (Opcode.TEXT, Opcode.CONT) and self.is_open:
            self._partial += frame.data
            if frame.fin:
                message, self._partial = bytes(self._partial), bytearray()
                self._arrived(message)

    def _arrived(self, message: bytes) -> None:
        try:
            message.decode()
        except UnicodeDecodeError:
            self.fail(CloseCode.INVALID_DATA, "a text frame has to be UTF-8")
            return
        self._waiting.append(message)
        self._waiting_bytes += len(message)
        self._news.set()
        if len(self._waiting) >= MOST_WAITING or self._waiting_bytes >= MOST_WAITING_BYTES:
            self._connection.hold(True)

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """Yield the messages of the client until the socket closes."""
        while True:
            while self._waiting:
                message = self._waiting.popleft()
                self._waiting_bytes -= len(message)
                yield message
                if not self._waiting:
                    self._connection.hold(False)
            if not self.is_open:
                return
            self._news.clear()
            await self._news.wait()

    # --- what leaves -----------------------------------------------------------------------------

    async def send(self, message: bytes) -> None:
        """Send a message; waits while the client does not keep up. Raises: ClientGone.

        Who waits is served in the order of coming, one message each time the connection takes more.
        """
        if self._turn.locked() or not self._connection.is_writable:
            async with self._turn:
                await self._connection.drain()
                self.send_now(message)
        else:
            self.send_now(message)

    def send_now(self, message: bytes) -> None:
        """Send a message at once, for the last ones of a socket. Raises: ClientGone."""
        if not self.is_open:
            raise ClientGone
        self._exchange.sent_bytes += len(message)
        self._protocol.send_text(message)
        self._flush()

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake, unless it has begun. `reason`: at most 123 bytes."""
        if self.is_open:
            self._protocol.send_close(code, reason)
            self._flush()
            self._connection.linger(ended=False)

    def fail(self, code: int, reason: str) -> None:
        """Close without waiting for the client to agree."""
        if self.is_open:
            self._protocol.fail(code, reason)
            self._flush()

    def stuck(self) -> None:
        """As `Upgraded`."""
        self.fail(CloseCode.TRY_AGAIN_LATER, "read too slowly: resume")

    def beat(self, now: float) -> None:
        """Ask a quiet client whether it is there; close when it does not answer."""
        if now - self._heard_at >= self._silence_seconds:
            self.fail(CloseCode.GOING_AWAY, f"nothing was heard for {self._silence_seconds:g} s")
        elif (
            now - max(self._pinged_at, self._heard_at) >= self._ping_seconds
            and self._connection.is_writable
            and self.is_open
        ):
            self._pinged_at = now
            self._protocol.send_ping(b"")
            self._flush()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._connection.write(data)
            else:
                self._connection.linger(ended=True)
        if not self.is_open:
            self._news.set()
