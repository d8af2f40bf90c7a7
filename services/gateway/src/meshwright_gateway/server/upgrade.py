"""A connection that may become something else than HTTP, when its answer is 101 (RFC 9110, 7.8)."""

import sys
from typing import Any, Final, Protocol

from meshwright_gateway.server.connection import GuardedConnection

_MOST_EARLY_BYTES: Final = 64 * 1024
_WEBSOCKET: Final = b"websocket"


class Upgraded(Protocol):
    """What a connection belongs to once it was upgraded."""

    def received(self, data: bytes) -> None:
        """Take what the client sent."""
        ...

    def stuck(self) -> None:
        """Take leave of a client that has taken nothing for too long."""
        ...


class UpgradableConnection(GuardedConnection):
    """As `GuardedConnection`; a request for a WebSocket is an exchange like any other until its
    handler calls `upgrade`. Without that it is answered, and the connection closed.

    Nothing is read while what was written waits for the client: whoever does not read cannot make
    us answer ever more.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._asks_upgrade = False
        self._upgraded: Upgraded | None = None
        self._chunk = b""
        self._early = bytearray()
        self._held = False

    def upgrade(self, head: bytes, upgraded: Upgraded) -> None:
        """Answer with `head`; from now on all that comes goes to `upgraded`."""
        # The server has nothing to do with it any more, but at its own end.
        self.cycle.response_started = self.cycle.response_complete = True
        self._upgraded = upgraded
        self.transport.write(head)
        if self._early:
            early, self._early = bytes(self._early), bytearray()
            upgraded.received(early)

    def write(self, data: bytes) -> None:
        """Write at once; who writes much calls `drain` before."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def hold(self, held: bool) -> None:
        """Read nothing until it is called again."""
        self._held = held
        self._look()

    def linger(self, *, ended: bool) -> None:
        """Wait a few seconds for the client to close; `ended`: nothing is written any more."""
        if self._refused_at is None:
            self._refused_at = self.loop.time()
        if ended and not self.transport.is_closing():
            # To close while data of the client comes in would reset what it has still to read.
            self.transport.write_eof()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self.parser.should_upgrade() and self._get_upgrade() == _WEBSOCKET:
            self._asks_upgrade = True
            # Nothing else than a socket may follow on this connection.
            self.cycle.keep_alive = False

    def data_received(self, data: bytes) -> None:
        if self._upgraded is not None:
            self._upgraded.received(data)
        elif not self._asks_upgrade:
            self._chunk = data
            super().data_received(data)
            self._chunk = b""
        elif len(self._early) + len(data) > _MOST_EARLY_BYTES:
            self.abort()
        else:
            self._early += data

    def _unsupported_upgrade_warning(self) -> None:
        # The name is uvicorn's: called where its parser stops, before it knows an answer.
        stopped = sys.exception()
        if self._asks_upgrade and stopped is not None:
            self._early += self._chunk[stopped.args[0] :]

    def pause_writing(self) -> None:
        super().pause_writing()
        self._look()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._look()

    def _look(self) -> None:
        if self._upgraded is None or self.transport.is_closing():
            return
        if self._held or self.flow.write_paused:
            self.flow.pause_reading()
        else:
            self.flow.resume_reading()

    def check(self, now: float) -> None:
        upgraded = self._upgraded
        if upgraded is None or self._refused_at is not None or self.transport.is_closing():
            super().check(now)
        elif (
            self._write_paused_at is not None
            and now - self._write_paused_at > self._limits.slow_reader_seconds
        ):
            upgraded.stuck()
