"""Writes of tasks that come at the same time share statements, not only a transaction.

A worker with many short tasks, or many short steps, would spend most of its time on round trips.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, Generic, TypeAlias, TypeVar

from meshwright_common.encryption import KeyRing, TenantKeys
from meshwright_common.errors import DeadlineExceeded, Unavailable
from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import one_statement, unit_of_work
from meshwright_orchestrator.domain.errors import LeaseLost

T = TypeVar("T")
R = TypeVar("R")

MOST_TOGETHER: Final = 64
MOST_IN_A_ROW: Final = 8
"""Statements on a connection before it is given back and the tenant's keys are asked for anew."""

Write: TypeAlias = Callable[[Connection, TenantKeys, Sequence[T]], Awaitable[Mapping[str, R]]]
"""Writes for all at once; returns what came of each task that was still ours, by its id."""


@dataclass(slots=True, eq=False)
class _Piece(Generic[T, R]):
    task_id: str
    content: T
    answer: asyncio.Future[R] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def tell(self, written: Mapping[str, R]) -> None:
        if self.answer.done():
            return
        if self.task_id in written:
            self.answer.set_result(written[self.task_id])
        else:
            self.answer.set_exception(LeaseLost())

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass(slots=True, eq=False)
class _Queue(Generic[T, R]):
    waiting: list[_Piece[T, R]] = field(default_factory=list)
    workers: int = 0


class Together(Generic[T, R]):
    """One transaction of a tenant at a time; the next takes what came meanwhile, up to `most`.

    `alone`: `write` makes one statement, of a function that sets the tenant, and nothing else.
    `beside`: a second one at the same time once half of `most` wait. For writes of which a task has
    one at a time: no two of them wait for each other's rows.
    """

    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        write: Write[T, R],
        *,
        alone: bool = False,
        most: int = MOST_TOGETHER,
        beside: bool = False,
    ) -> None:
        self._database = database
        self._ring = ring
        self._write = write
        self._alone = alone
        self._most = most
        self._workers = 2 if beside else 1
        self._queues: dict[str, _Queue[T, R]] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def write(self, tenant_id: str, task_id: str, content: T) -> R:
        """Return what came of it when that is committed.

        Raises: LeaseLost; what writing raises; as unit_of_work.
        """
        piece: _Piece[T, R] = _Piece(task_id, content)
        queue = self._queues.setdefault(tenant_id, _Queue())
        queue.waiting.append(piece)
        enough = len(queue.waiting) >= self._most // 2
        if not queue.workers or (enough and queue.workers < self._workers):
            queue.workers += 1
            # house: naked-task: ends with its queue; whoever waits for it holds the pool open
            work = asyncio.create_task(self._work_off(tenant_id, queue))
            self._running.add(work)
            work.add_done_callback(self._running.discard)
        return await piece.answer

    async def _work_off(self, tenant_id: str, queue: _Queue[T, R]) -> None:
        waiting = queue.waiting
        try:
            while waiting:
                await self._together(tenant_id, self._taken(waiting), waiting)
        finally:
            queue.workers -= 1
            if not queue.workers:
                del self._queues[tenant_id]
                for piece in waiting:
                    piece.answer.cancel()

    def _taken(self, waiting: list[_Piece[T, R]]) -> list[_Piece[T, R]]:
        pieces = [piece for piece in waiting[: self._most] if not piece.answer.done()]
        del waiting[: self._most]
        return pieces

    async def _together(
        self, tenant_id: str, pieces: list[_Piece[T, R]], more: list[_Piece[T, R]]
    ) -> None:
        """Write `pieces`; where each statement stands alone, then `more` on the same connection."""
        if not pieces:
            return
        all_done = False
        written: Mapping[str, R] = {}
        try:
            keys = await self._ring.keys_of(tenant_id)
            async with self._opened(tenant_id) as connection:
                if self._alone:
                    await self._in_a_row(connection, keys, pieces, more)
                else:
                    written = await self._write(connection, keys, _contents(pieces))
                all_done = True
        except asyncio.CancelledError:
            for piece in pieces:
                piece.answer.cancel()
            raise
        # house: broad-except: whatever it is belongs to those who wait for the transaction
        except Exception as error:
            if len(pieces) > 1 and not all_done and not (self._alone and _is_lost(error)):
                # Rolled back for certain: the COMMIT was not sent, or the server said so.
                for piece in pieces:
                    await self._together(tenant_id, [piece], [])
                return
            for piece in pieces:
                piece.fail(error)
        else:
            _tell(pieces, written)

    async def _in_a_row(
        self,
        connection: Connection,
        keys: TenantKeys,
        pieces: list[_Piece[T, R]],
        more: list[_Piece[T, R]],
    ) -> None:
        """Write and tell `pieces`, which then are those of `more` that are being written."""
        for left in reversed(range(MOST_IN_A_ROW)):
            # Committed: nobody has to wait until the connection is given back.
            _tell(pieces, await self._write(connection, keys, _contents(pieces)))
            pieces[:] = self._taken(more) if left else ()
            if not pieces:
                break

    def _opened(self, tenant_id: str) -> AbstractAsyncContextManager[Connection]:
        if self._alone:
            return one_statement(self._database)
        return unit_of_work(self._database, tenant_id)


def _contents(pieces: Sequence[_Piece[T, R]]) -> Sequence[T]:
    return [piece.content for piece in pieces]


def _tell(pieces: Sequence[_Piece[T, R]], written: Mapping[str, R]) -> None:
    for piece in pieces:
        piece.tell(written)


def _is_lost(error: Exception) -> bool:
    """Return whether nobody knows what became of a statement that was its own transaction."""
    return isinstance(error, Unavailable | DeadlineExceeded | TimeoutError)
