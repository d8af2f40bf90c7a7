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


class Together(Generic[T, R]):
    """One transaction of a tenant at a time; the next takes what came meanwhile, up to `most`.

    `alone`: `write` makes one statement, of a function that sets the tenant, and nothing else.
    """

    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        write: Write[T, R],
        *,
        alone: bool = False,
        most: int = MOST_TOGETHER,
    ) -> None:
        self._database = database
        self._ring = ring
        self._write = write
        self._alone = alone
        self._most = most
        self._waiting: dict[str, list[_Piece[T, R]]] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def write(self, tenant_id: str, task_id: str, content: T) -> R:
        """Return what came of it when that is committed.

        Raises: LeaseLost; what writing raises; as unit_of_work.
        """
        piece: _Piece[T, R] = _Piece(task_id, content)
        waiting = self._waiting.get(tenant_id)
        if waiting is None:
            self._waiting[tenant_id] = [piece]
            # house: naked-task: ends with its queue; whoever waits for it holds the pool open
            work = asyncio.create_task(self._work_off(tenant_id))
            self._running.add(work)
            work.add_done_callback(self._running.discard)
        else:
            waiting.append(piece)
        return await piece.answer

    async def _work_off(self, tenant_id: str) -> None:
        waiting = self._waiting[tenant_id]
        try:
            while waiting:
                pieces = [piece for piece in waiting[: self._most] if not piece.answer.done()]
                del waiting[: self._most]
                await self._together(tenant_id, pieces)
        finally:
            del self._waiting[tenant_id]
            for piece in waiting:
                piece.answer.cancel()

    async def _together(self, tenant_id: str, pieces: Sequence[_Piece[T, R]]) -> None:
        if not pieces:
            return
        all_done = False
        try:
            keys = await self._ring.keys_of(tenant_id)
            async with self._opened(tenant_id) as connection:
                written = await self._write(connection, keys, [piece.content for piece in pieces])
                all_done = True
                if self._alone:
                    # It is committed: nobody has to wait until the connection is given back.
                    _tell(pieces, written)
        except asyncio.CancelledError:
            for piece in pieces:
                piece.answer.cancel()
            raise
        # house: broad-except: whatever it is belongs to those who wait for the transaction
        except Exception as error:
            if len(pieces) > 1 and not all_done and not (self._alone and _is_lost(error)):
                # Rolled back for certain: the COMMIT was not sent, or the server said so.
                for piece in pieces:
                    await self._together(tenant_id, [piece])
                return
            for piece in pieces:
                piece.fail(error)
        else:
            _tell(pieces, written)

    def _opened(self, tenant_id: str) -> AbstractAsyncContextManager[Connection]:
        if self._alone:
            return one_statement(self._database)
        return unit_of_work(self._database, tenant_id)


def _tell(pieces: Sequence[_Piece[T, R]], written: Mapping[str, R]) -> None:
    for piece in pieces:
        piece.tell(written)


def _is_lost(error: Exception) -> bool:
    """Return whether nobody knows what became of a statement that was its own transaction."""
    return isinstance(error, Unavailable | DeadlineExceeded | TimeoutError)
