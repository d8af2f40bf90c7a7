"""Bringing the index in line with the rows: right after a change, and later if that failed.

What a piece of work comes to is decided by the row as it is when the work is done: a memory that
holds is put into the index, any other is taken out. So work may be done twice, late, or by another
process than the one that made it.
"""

import asyncio
from collections.abc import Sequence
from itertools import groupby
from typing import Final

from meshwright_common.errors import ServiceError, Unavailable
from meshwright_session.domain.memory_ports import IndexQueue, IndexWork, MemoryIndex
from meshwright_session.domain.models import Owner

PUT_SECONDS: Final = 10.0
"""For the index entries of one user, at most: well within the lease."""
RETRY_SECONDS: Final = 5.0


class Indexing:
    """Does work on the index."""

    def __init__(self, queue: IndexQueue, index: MemoryIndex) -> None:
        self._queue = queue
        self._index = index

    async def do(self, work: Sequence[IndexWork]) -> ServiceError | None:
        """Do work that the caller holds; return the error for which some of it was put off."""
        failed: ServiceError | None = None

        def whose(one: IndexWork) -> tuple[str, str]:
            return one.tenant_id, one.user_id

        for (tenant_id, user_id), group in groupby(sorted(work, key=whose), whose):
            pieces = list(group)
            try:
                async with asyncio.timeout(PUT_SECONDS):
                    await self._bring_up(Owner(tenant_id, user_id), pieces)
            except TimeoutError:
                failed = Unavailable("the index of memories took too long")
            except ServiceError as error:
                # Away, or the tenant has used up what embedding costs: the rows are stored.
                failed = error
            else:
                await self._queue.settle(tenant_id, pieces)
                continue
            await self._queue.postpone(pieces, seconds=RETRY_SECONDS)
        return failed

    async def do_what_waits(self, most: int) -> tuple[int, ServiceError | None]:
        """Hold and do up to `most` pieces; return how many, and the error as `do` does."""
        work = await self._queue.claim(most)
        return len(work), await self.do(work) if work else None

    async def _bring_up(self, owner: Owner, work: Sequence[IndexWork]) -> None:
        ids = [one.memory_id for one in work]
        texts = await self._queue.texts(owner, ids)
        if texts:
            await self._index.put(owner.tenant_id, owner.user_id, texts)
        if gone := [one for one in ids if one not in texts]:
            await self._index.remove(owner.tenant_id, owner.user_id, gone)
