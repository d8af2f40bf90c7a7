"""Small transactions of one tenant that come at the same time share one, and its commit.

Most of a small transaction is its frame: opening, committing and flushing cost more than the one
statement inside. Work that comes alone begins at once; nothing waits for a timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypeVar, cast

from meshwright_common import context
from meshwright_common.context import CallContext
from meshwright_common.storage.postgres import Connection, Database
from meshwright_common.storage.tenancy import unit_of_work

T = TypeVar("T")

MOST_TOGETHER: Final = 16
"""Pieces of work in one transaction: all of them wait for the last."""

Work: TypeAlias = Callable[[Connection], Awaitable[T]]


@dataclass(slots=True, eq=False)
class _Piece:
    work: Work[object]
    order: str
    context: CallContext
    answer: asyncio.Future[object] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    outcome: object = None

    async def do(self, connection: Connection) -> None:
        with context.bind(self.context):
            self.outcome = await self.work(connection)

    def tell(self) -> None:
        if self.answer.done():
            return
        if isinstance(self.outcome, Exception):
            self.answer.set_exception(self.outcome)
        else:
            self.answer.set_result(self.outcome)


class Gathering:
    """Runs pieces of work on one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[str, list[_Piece]] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, tenant_id: str, work: Work[T], *, order: str = "") -> T:
        """Do `work` in a transaction of the tenant; return its result once that is committed.

        Pieces that come while a transaction of the tenant is under way share the next one, by
        `order` and then in the order they came. Work that locks a row gives the row's id: two
        transactions that take locks in one order never wait for each other in a circle. When one
        of them raises, all are rolled back and each is done again, alone: `work` may have no
        effects but through its connection. Raises: what `work` raises; as `unit_of_work`.
        """
        piece = _Piece(work, order, context.current())
        waiting = self._waiting.get(tenant_id)
        if waiting is None:
            self._waiting[tenant_id] = [piece]
            # house: naked-task: ends with its queue; whoever waits for it holds the pool open
            task = asyncio.create_task(self._work_off(tenant_id))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        else:
            waiting.append(piece)
        return cast(T, await piece.answer)

    async def _work_off(self, tenant_id: str) -> None:
        waiting = self._waiting[tenant_id]
        try:
            while waiting:
                pieces = [piece for piece in waiting[:MOST_TOGETHER] if not piece.answer.done()]
                del waiting[:MOST_TOGETHER]
                pieces.sort(key=lambda piece: piece.order)
                await self._together(tenant_id, pieces)
        finally:
            del self._waiting[tenant_id]
            for piece in waiting:
                piece.answer.cancel()

    async def _together(self, tenant_id: str, pieces: list[_Piece]) -> None:
        all_done = False
        try:
            async with unit_of_work(self._database, tenant_id) as connection:
                for piece in pieces:
                    await piece.do(connection)
                all_done = True
        except asyncio.CancelledError:
            for piece in pieces:
                piece.answer.cancel()
            raise
        # house: broad-except: whatever it is belongs to those who wait for the transaction
        except Exception as error:
            if len(pieces) > 1 and not all_done:
                # Rolled back for certain: the COMMIT was not sent.
                for piece in pieces:
                    await self._together(tenant_id, [piece])
                return
            for piece in pieces:
                piece.outcome = error
        for piece in pieces:
            piece.tell()
