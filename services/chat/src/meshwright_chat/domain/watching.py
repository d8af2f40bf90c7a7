"""Reading a stream that may fall silent, without giving it up."""

import asyncio
from collections.abc import AsyncIterator
from enum import Enum
from typing import Final, Generic, TypeVar

T = TypeVar("T")


class Silence(Enum):
    """Nothing came in time."""

    QUIET = "quiet"


QUIET: Final = Silence.QUIET


class Watched(Generic[T]):
    """The next item of a stream, or the fact that it is late. A late one is not lost."""

    def __init__(self, items: AsyncIterator[T]) -> None:
        self._items = items
        self._next: asyncio.Task[T | None] | None = None

    async def next(self, within_seconds: float | None) -> T | Silence | None:
        """Return the next item, None at the end; QUIET when it takes longer than so many seconds.

        Without a limit this costs no more than the stream itself. Raises: what the stream raises.
        """
        if within_seconds is None and self._next is None:
            return await anext(self._items, None)
        if self._next is None:
            # house: naked-task: awaited by the next call, or ended by aclose
            self._next = asyncio.create_task(self._read())
        await asyncio.wait({self._next}, timeout=within_seconds)
        if not self._next.done():
            return QUIET
        done, self._next = self._next, None
        return done.result()

    async def _read(self) -> T | None:
        return await anext(self._items, None)

    async def aclose(self) -> None:
        """Stop reading. The stream itself is its owner's to close."""
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)
            self._next = None
