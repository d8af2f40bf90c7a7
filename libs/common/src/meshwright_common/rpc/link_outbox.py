"""Frames that wait to be sent: at once when the link is idle, together while a write is under way.

No timer: a frame waits for the write before it and for nothing else.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

BATCH_BYTES: Final = 256 * 1024
"""About how much one write takes, so that what comes next does not wait for megabytes."""
ROOM_BYTES: Final = 1024 * 1024
"""From this on the streams of the link wait before they give it more."""
MOST_BYTES: Final = 64 * 1024 * 1024
"""From this on a peer that takes nothing gets no new calls either."""


class Outbox:
    """What one side of a link has to send. `bulk` frames go after all others, in their order."""

    __slots__ = ("_bulk", "_bytes", "_closing", "_loop", "_urgent", "_waiting", "_wake")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._urgent: deque[bytes] = deque()
        self._bulk: deque[bytes] = deque()
        self._bytes = 0
        self._closing = False
        self._wake: asyncio.Future[None] | None = None
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def is_full(self) -> bool:
        """Whether streams have to wait."""
        return self._bytes >= ROOM_BYTES

    @property
    def is_stuck(self) -> bool:
        """Whether so much waits that nothing should be added."""
        return self._bytes >= MOST_BYTES

    def send(self, frame: bytes, *, bulk: bool = False) -> None:
        """Send `frame` with the next write."""
        if self._closing:
            return
        (self._bulk if bulk else self._urgent).append(frame)
        self._bytes += len(frame)
        if self._wake is not None:
            self._wake_up()

    async def room(self) -> None:
        """Wait until it is not full, or closed."""
        while self._bytes >= ROOM_BYTES and not self._closing:
            waiter = self._loop.create_future()
            self._waiting.append(waiter)
            await waiter

    def close(self, *, drop: bool = False) -> None:
        """Take nothing more; what waits is still sent, or forgotten with `drop`."""
        self._closing = True
        if drop:
            self._urgent.clear()
            self._bulk.clear()
            self._bytes = 0
        self._let_in()
        self._wake_up()

    def unsent(self) -> list[bytes]:
        """Return the frames that no write has taken."""
        return [*self._urgent, *self._bulk]

    async def run(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Write what is to be sent until it is closed and empty. Raises what `write` raises."""
        while True:
            if not self._bytes:
                if self._closing:
                    return
                self._wake = self._loop.create_future()
                try:
                    await self._wake
                finally:
                    self._wake = None
                continue
            await write(self._take())
            if self._waiting and self._bytes < ROOM_BYTES:
                self._let_in()

    def _take(self) -> bytes:
        if self._bytes <= BATCH_BYTES:
            batch = b"".join((*self._urgent, *self._bulk))
            self._urgent.clear()
            self._bulk.clear()
            self._bytes = 0
            return batch
        taken: list[bytes] = []
        size = 0
        while size < BATCH_BYTES and (self._urgent or self._bulk):
            taken.append(self._urgent.popleft() if self._urgent else self._bulk.popleft())
            size += len(taken[-1])
        self._bytes -= size
        return b"".join(taken)

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _let_in(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
