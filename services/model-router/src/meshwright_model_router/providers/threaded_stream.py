"""Blocking iterators, read in threads of their own and handed to the event loop.

The threads are daemons: one that hangs in somebody's library keeps no process from ending. Their
number is bounded; whoever comes when all are busy waits for one.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, Final, Generic, TypeVar

MAX_THREADS: Final = 64
HELD: Final = 64
"""Items that a thread reads ahead of a slow reader."""

T = TypeVar("T")


class ThreadedStreams:
    """Runs blocking iterators for one provider."""

    def __init__(self, threads: int = MAX_THREADS) -> None:
        self._free = asyncio.Semaphore(threads)

    async def run(self, start: Callable[[], Iterator[T]]) -> AsyncGenerator[T, None]:
        """Yield what the iterator that `start` makes yields; raise what it raises.

        Closing the generator closes the iterator after the item it is busy with; until then its
        thread counts as taken.
        """
        await self._free.acquire()
        reading = _Reading[T](start, self._free.release)
        try:
            reading.begin()
            while True:
                item = await reading.next()
                if item is _END:
                    return
                yield item
        finally:
            reading.left.set()
            reading.room.release()


_END: Final[Any] = object()


class _Reading(Generic[T]):
    """One iterator and its thread. `left`: nobody waits for its items any longer."""

    def __init__(self, start: Callable[[], Iterator[T]], ended: Callable[[], None]) -> None:
        self._start = start
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[T | BaseException] = asyncio.Queue()
        self.room = threading.Semaphore(HELD)
        self.left = threading.Event()

    def begin(self) -> None:
        try:
            threading.Thread(target=self._read, name="blocking-stream", daemon=True).start()
        except RuntimeError:
            self._ended()  # there is no thread to have: its place is free again
            raise

    async def next(self) -> T:
        item = await self._items.get()
        self.room.release()
        if isinstance(item, BaseException):
            raise item
        return item

    def _read(self) -> None:
        last: Any = _END
        try:
            iterator = self._start()
            for item in iterator:
                self.room.acquire()
                if self.left.is_set():
                    break
                self._hand_over(self._items.put_nowait, item)
            if (close := getattr(iterator, "close", None)) is not None:
                close()
        # house: broad-except: whatever the iterator raises belongs to whoever reads it
        except Exception as error:
            last = error
        self._hand_over(self._items.put_nowait, last)
        self._hand_over(self._ended)

    def _hand_over(self, call: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            self.left.set()  # the loop is closed: the process ends
