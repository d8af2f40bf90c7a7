"""The ends of tasks: final state, last steps, and what the world is told, all or nothing.

Ends that come at the same time share statements, not only a transaction: a worker with many short
tasks would spend most of its time on round trips.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from meshwright_common import context
from meshwright_common.context import CallContext
from meshwright_common.encryption import KeyRing, TenantKeys
from meshwright_common.events import outbox
from meshwright_common.events.envelope import Event
from meshwright_common.events.notification import notice_event
from meshwright_common.events.topics import Topic
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_orchestrator.adapters import news, statements, task_rows, trees
from meshwright_orchestrator.domain.agents import UNANNOUNCED
from meshwright_orchestrator.domain.errors import LeaseLost
from meshwright_orchestrator.domain.models import Task
from meshwright_orchestrator.domain.ports import Ending
from meshwright_orchestrator.domain.spending import spent_in
from meshwright_orchestrator.wire.events import task_notice, task_result_data

SOURCE: Final = "orchestrator"
MOST_TOGETHER: Final = 64


@dataclass(slots=True, eq=False)
class _Piece:
    task: Task
    ending: Ending
    context: CallContext
    answer: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def tell(self, error: Exception | None) -> None:
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(None)
        else:
            self.answer.set_exception(error)


class TaskEnds:
    """Writes ends. One transaction of a tenant at a time; the next takes what came meanwhile."""

    def __init__(self, database: Database, ring: KeyRing) -> None:
        self._database = database
        self._ring = ring
        self._waiting: dict[str, list[_Piece]] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def end(self, task: Task, ending: Ending) -> None:
        """Return when the end is committed. Raises: LeaseLost; EventTooLarge; as unit_of_work."""
        piece = _Piece(task, ending, context.current())
        waiting = self._waiting.get(task.tenant_id)
        if waiting is None:
            self._waiting[task.tenant_id] = [piece]
            # house: naked-task: ends with its queue; whoever waits for it holds the pool open
            work = asyncio.create_task(self._work_off(task.tenant_id))
            self._running.add(work)
            work.add_done_callback(self._running.discard)
        else:
            waiting.append(piece)
        await piece.answer

    async def _work_off(self, tenant_id: str) -> None:
        waiting = self._waiting[tenant_id]
        try:
            while waiting:
                pieces = [piece for piece in waiting[:MOST_TOGETHER] if not piece.answer.done()]
                del waiting[:MOST_TOGETHER]
                await self._together(tenant_id, pieces)
        finally:
            del self._waiting[tenant_id]
            for piece in waiting:
                piece.answer.cancel()

    async def _together(self, tenant_id: str, pieces: Sequence[_Piece]) -> None:
        if not pieces:
            return
        all_done = False
        try:
            keys = await self._ring.keys_of(tenant_id)
            async with unit_of_work(self._database, tenant_id) as connection:
                ended = await _write(connection, keys, pieces)
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
                piece.tell(error)
        else:
            for piece in pieces:
                piece.tell(None if piece.task.task_id in ended else LeaseLost())


async def _write(connection: Connection, keys: TenantKeys, pieces: Sequence[_Piece]) -> set[str]:
    """Write the ends of those that are still ours; return their ids."""
    await trees.lock(connection, keys.tenant_id, [piece.task.root_task_id for piece in pieces])
    endings = [piece.ending for piece in pieces]
    steps = [(piece.task.task_id, step) for piece in pieces for step in piece.ending.steps]
    rows = await connection.fetch(
        statements.END,
        keys.tenant_id,
        [piece.task.task_id for piece in pieces],
        [piece.task.lease_epoch for piece in pieces],
        [ending.steps[-1].number if ending.steps else 0 for ending in endings],
        [task_rows.usage_record(ending.usage) for ending in endings],
        [ending.state.value for ending in endings],
        [
            task_rows.sealed_result(keys, piece.task.task_id, piece.ending.result)
            for piece in pieces
        ],
        [
            task_rows.sealed_failure(keys, piece.task.task_id, piece.ending.failure)
            for piece in pieces
        ],
        [task_id for task_id, _ in steps],
        *task_rows.step_columns(keys, steps),
    )
    by_id = {piece.task.task_id: piece for piece in pieces}
    ended = [by_id[row["task_id"]] for row in rows]
    await trees.count(
        connection,
        keys.tenant_id,
        [
            (piece.task.root_task_id, spent_in(piece.ending.steps))
            for piece in ended
            if piece.task.root_task_id
        ],
    )
    for piece in ended:
        news.tell_of_end(connection, piece.task)
    await announce(connection, [_ended(by_id[row["task_id"]], row) for row in rows])
    return {row["task_id"] for row in rows}


def _ended(piece: _Piece, row: Record) -> tuple[Task, CallContext]:
    ending = piece.ending
    task = replace(
        piece.task,
        state=ending.state,
        result=ending.result,
        failure=ending.failure,
        usage=ending.usage,
        step_count=row["step_count"],
        ended_at=row["ended_at"],
    )
    return task, piece.context


async def announce(connection: Connection, ended: Sequence[tuple[Task, CallContext]]) -> None:
    """Tell the world that tasks ended, and the owners of detached ones: whoever waits for a task
    sees its end. The caller has just changed their states: exactly one each.
    """
    results: list[Event] = []
    notices: list[Event] = []
    for task, call in ended:
        with context.bind(call):
            results.append(
                Event.new(
                    event_type=f"agent.task.{task.state.value}",
                    source=SOURCE,
                    tenant_id=task.tenant_id,
                    partition_key=task.owner.subject,
                    data=task_result_data(task),
                    correlation_id=task.correlation_id,
                )
            )
            is_handed_in = task.detached and not task.workflow_run_id
            if is_handed_in and task.spec.agent not in UNANNOUNCED:
                notices.append(
                    notice_event(
                        task_notice(task),
                        source=SOURCE,
                        tenant_id=task.tenant_id,
                        correlation_id=task.correlation_id,
                    )
                )
    if results:
        await outbox.append_all(connection, Topic.TASK_RESULT, results)
    if notices:
        await outbox.append_all(connection, Topic.NOTIFICATION, notices)
