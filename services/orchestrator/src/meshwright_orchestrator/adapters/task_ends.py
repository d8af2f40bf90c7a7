"""The ends of tasks: final state, last steps, and what the world is told, all or nothing.

Ends that come at the same time share statements (together.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import orjson

from meshwright_common import context
from meshwright_common.context import CallContext
from meshwright_common.encryption import KeyRing, TenantKeys
from meshwright_common.events import outbox
from meshwright_common.events.envelope import Event
from meshwright_common.events.notification import notice_event
from meshwright_common.events.topics import Topic
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_orchestrator.adapters import news, statements, task_rows, trees
from meshwright_orchestrator.adapters.together import Together
from meshwright_orchestrator.domain.agents import UNANNOUNCED
from meshwright_orchestrator.domain.models import Task
from meshwright_orchestrator.domain.ports import Ending
from meshwright_orchestrator.domain.spending import spent_in
from meshwright_orchestrator.wire.events import task_notice, task_result_data

SOURCE: Final = "orchestrator"


@dataclass(frozen=True, slots=True)
class _Piece:
    task: Task
    ending: Ending
    context: CallContext


class TaskEnds:
    """Writes ends. One transaction of a tenant at a time; the next takes what came meanwhile."""

    def __init__(self, database: Database, ring: KeyRing) -> None:
        self._together = Together(database, ring, _write)

    async def end(self, task: Task, ending: Ending) -> None:
        """Return when the end is committed. Raises: LeaseLost; EventTooLarge; as unit_of_work."""
        piece = _Piece(task, ending, context.current())
        await self._together.write(task.tenant_id, task.task_id, piece)


async def _write(
    connection: Connection, keys: TenantKeys, pieces: Sequence[_Piece]
) -> Mapping[str, None]:
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
        [orjson.dumps(ending.usage).decode() for ending in endings],
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
    return {row["task_id"]: None for row in rows}


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
