"""One place between a producer and a consumer of one event loop."""

import asyncio
from typing import Final, Generic, Protocol, TypeVar, cast

T = TypeVar("T")


class Passage(Protocol[T]):
    """One direction of a call. At most one task puts and one takes at a time."""

    async def put(self, item: T) -> None:
        """Hand over `item`, after a wait if the other side has enough. Ignored after `end`."""

    async def take(self) -> T | None:
        """Return the next item; None when there will be no more."""

    def end(self, *, drop: bool = False) -> None:
        """Say that no more items come; with `drop`, also forget those that were not taken."""


class _Empty:
    """The mark of a free place."""


_EMPTY: Final = _Empty()


class Handover(Generic[T]):
    """A queue of one with back-pressure: the producer waits while the place is taken.

    An item goes straight to a waiting consumer, which costs one turn of the loop. At most one
    task puts and one takes at a time. After `end` the consumer still gets what lies there.
    """

    __slots__ = ("_consumer", "_ended", "_item", "_loop", "_producer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._item: T | _Empty = _EMPTY
        self._ended = False
        self._consumer: asyncio.Future[T | _Empty] | None = None
        self._producer: asyncio.Future[None] | None = None

    async def put(self, item: T) -> None:
        """Hand over `item`, then wait until the place is free again. Ignored after `end`."""
        consumer = self._consumer
        if consumer is not None and not consumer.done():
            self._consumer = None
            consumer.set_result(item)
            return
        if self._ended:
            return
        self._item = item
        self._producer = self._loop.create_future()
        try:
            await self._producer
        finally:
            self._producer = None

    async def take(self) -> T | None:
        """Return the next item; None when there will be no more."""
        item = self._item
        if item is not _EMPTY:
            self._item = _EMPTY
            producer = self._producer
            if producer is not None and not producer.done():
                producer.set_result(None)
            return cast(T, item)
        if self._ended:
            return None
        consumer: asyncio.Future[T | _Empty] = self._loop.create_future()
        self._consumer = consumer
        try:
            given = await consumer
        finally:
            if self._consumer is consumer:
                self._consumer = None
        return None if given is _EMPTY else cast(T, given)

    def end(self, *, drop: bool = False) -> None:
        """Say that no more items come; with `drop`, also forget the one that lies there."""
        self._ended = True
        if drop:
            self._item = _EMPTY
        if self._consumer is not None and not self._consumer.done():
            self._consumer.set_result(_EMPTY)
            self._consumer = None
        producer = self._producer
        if self._item is _EMPTY and producer is not None and not producer.done():
            producer.set_result(None)
