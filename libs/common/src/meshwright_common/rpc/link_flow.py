"""The two directions of a stream over a link, with room for so much and no more.

A stream begins with room for `WINDOW_BYTES`; its reader makes room again for what it has taken, so
a slow reader stops its own stream's writer and nobody else. The idea is HTTP/2's (RFC 9113, 5.2).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, NoReturn, TypeVar, cast

import grpc.aio
from google.protobuf.message import DecodeError

from meshwright_common.rpc.limits import MAX_MESSAGE_BYTES
from meshwright_common.rpc.link_frames import (
    HEADER_BYTES,
    PART_BYTES,
    credit_frame,
    frame,
    message_frames,
)
from meshwright_common.rpc.link_outbox import Outbox

T = TypeVar("T")

WINDOW_BYTES: Final = 256 * 1024
"""What a stream may send before its reader has taken anything."""
FRAME_COST: Final = 64
"""What a frame counts beside its bytes: thousands of empty messages are not free either."""
_MOST_OWED: Final = WINDOW_BYTES + PART_BYTES + HEADER_BYTES + FRAME_COST
"""Who has room for one byte may send a whole frame."""


class Outgoing(Generic[T]):
    """Sends the messages of one direction of a call, each when there is room for it."""

    __slots__ = (
        "_call",
        "_end_frame",
        "_ended",
        "_loop",
        "_outbox",
        "_room",
        "_serialize",
        "_wait",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        outbox: Outbox,
        call: int,
        serialize: Callable[[T], bytes] | None,
        end_frame: int | None = None,
    ) -> None:
        self._loop = loop
        self._outbox = outbox
        self._call = call
        self._serialize = serialize
        self._end_frame = end_frame
        self._room = WINDOW_BYTES
        self._ended = False
        self._wait: asyncio.Future[None] | None = None

    async def put(self, item: T) -> None:
        """Send `item`, after a wait if there is no room. Ignored after `end`."""
        data = cast(bytes, item) if self._serialize is None else self._serialize(item)
        for one in message_frames(self._call, data):
            while not self._ended and (self._room <= 0 or self._outbox.is_full):
                await self._wait_for_room()
            if self._ended:
                return
            self._room -= len(one) + FRAME_COST
            self._outbox.send(one)

    def grant(self, room: int) -> None:
        """Take note that the reader has made room."""
        self._room += room
        self._go_on()

    def end(self, *, drop: bool = False) -> None:
        """Say that no more items come; with `drop`, to nobody but the one who waits in `put`."""
        if not self._ended:
            self._ended = True
            if self._end_frame is not None and not drop:
                self._outbox.send(frame(self._end_frame, self._call))
            self._go_on()

    async def take(self) -> NoReturn:
        """Refuse: the other side takes."""
        raise grpc.aio.UsageError("this side of the call sends")

    async def _wait_for_room(self) -> None:
        if self._room > 0:
            await self._outbox.room()
            return
        self._wait = self._loop.create_future()
        try:
            await self._wait
        finally:
            self._wait = None

    def _go_on(self) -> None:
        if self._wait is not None and not self._wait.done():
            self._wait.set_result(None)


class Incoming(Generic[T]):
    """Holds what has arrived of one direction of a call until somebody takes it."""

    __slots__ = (
        *("_call", "_ended", "_free", "_items", "_loop", "_outbox", "_owed", "_parse"),
        *("_parts", "_parts_bytes", "_parts_cost", "_spoilt", "_wait"),
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        outbox: Outbox,
        call: int,
        parse: Callable[[bytes], T] | None,
        spoilt: Callable[[grpc.StatusCode, str], None],
    ) -> None:
        self._loop = loop
        self._outbox = outbox
        self._call = call
        self._parse = parse
        self._spoilt = spoilt
        self._items: deque[tuple[bytes, int]] = deque()
        self._parts: list[bytes] = []
        self._parts_bytes = self._parts_cost = 0
        self._owed = 0
        self._free = 0
        self._ended = False
        self._wait: asyncio.Future[None] | None = None

    def feed(self, data: bytes, *, is_part: bool) -> None:
        """Keep a message, or a part of one, that has arrived.

        A message that is too large, and one for which no room was made, end the call.
        """
        if self._ended:
            return
        cost = len(data) + HEADER_BYTES + FRAME_COST
        self._owed += cost
        self._parts_bytes += len(data)
        if self._owed > _MOST_OWED:
            self._spoilt(grpc.StatusCode.RESOURCE_EXHAUSTED, "more was sent than there is room for")
        elif self._parts_bytes > MAX_MESSAGE_BYTES:
            text = f"Received message larger than max ({self._parts_bytes} vs. {MAX_MESSAGE_BYTES})"
            self._spoilt(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        elif is_part:
            self._parts.append(data)
            self._parts_cost += cost
            self._make_room_for_parts()
        else:
            if self._parts:
                data = b"".join((*self._parts, data))
                self._parts = []
            self._items.append((data, cost + self._parts_cost))
            self._parts_bytes = self._parts_cost = 0
            self._notify()

    async def take(self) -> T | None:
        """Return the next item; None when there will be no more."""
        while not self._items:
            if self._ended:
                return None
            self._wait = self._loop.create_future()
            try:
                await self._wait
            finally:
                self._wait = None
        data, cost = self._items.popleft()
        self._make_room(cost)
        self._make_room_for_parts()
        if self._parse is None:
            return cast(T, data)
        try:
            return self._parse(data)
        except DecodeError:
            self._spoilt(grpc.StatusCode.INTERNAL, "a message cannot be read")
            return None

    def end(self, *, drop: bool = False) -> None:
        """Say that no more items come; with `drop`, also forget those that are here."""
        self._ended = True
        if drop:
            self._items.clear()
        self._notify()

    async def put(self, _item: Any) -> NoReturn:
        """Refuse: the other side puts."""
        raise grpc.aio.UsageError("this side of the call receives")

    def _make_room_for_parts(self) -> None:
        """Let in the rest of a message that may be larger than the window, if it is the next."""
        if self._parts_cost and not self._items:
            self._make_room(self._parts_cost)
            self._parts_cost = 0

    def _make_room(self, cost: int) -> None:
        """Tell the writer in lumps: a frame of room for each message would double the frames."""
        self._free += cost
        if self._free >= WINDOW_BYTES // 2 and not self._ended:
            self._owed -= self._free
            self._outbox.send(credit_frame(self._call, self._free))
            self._free = 0

    def _notify(self) -> None:
        if self._wait is not None and not self._wait.done():
            self._wait.set_result(None)
