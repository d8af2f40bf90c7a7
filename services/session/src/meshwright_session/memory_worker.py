"""Brings the index of memories in line with the rows, where nobody else did."""

import asyncio
from typing import Final

from meshwright_common.errors import ServiceError
from meshwright_common.telemetry.logging import get_logger
from meshwright_session.domain.memory_indexing import Indexing

MOST_AT_ONCE: Final = 100

logger = get_logger(__name__)


class MemoryIndexWorker:
    """Looks for work every so often. Any number of processes may: each piece has one holder."""

    def __init__(self, indexing: Indexing, *, look_seconds: float) -> None:
        self._indexing = indexing
        self._look_seconds = look_seconds
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Finish what is in flight, then return from `run`."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until `stop` is called. Waits out a database or an index that is away."""
        while not self._stopping.is_set():
            if await self._round():
                continue
            try:
                async with asyncio.timeout(self._look_seconds):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def _round(self) -> bool:
        """Do what is due; return whether there may be more."""
        try:
            count, failed = await self._indexing.do_what_waits(MOST_AT_ONCE)
        except ServiceError as error:
            logger.warning("memory_index_not_followed", reason=error.reason)
            return False
        if failed is not None:
            logger.warning("memory_index_away", reason=failed.reason, count=count)
        return failed is None and count == MOST_AT_ONCE
