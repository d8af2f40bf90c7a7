"""What the tasks and runs that do the work of a run's steps came to."""

from meshwright_common.encryption import SealedJson, TenantKeys
from meshwright_common.storage.postgres import Connection, Record
from meshwright_orchestrator.adapters import run_statements, step_rows, workflow_rows
from meshwright_orchestrator.adapters.task_rows import TASKS
from meshwright_orchestrator.domain.models import TaskState, Usage
from meshwright_orchestrator.domain.workflows.progress import ChildEnd, ItemState, Progress
from meshwright_orchestrator.domain.workflows.step_tasks import output_of


async def children_of(
    connection: Connection, keys: TenantKeys, progress: Progress
) -> dict[str, ChildEnd]:
    """Return the children of the items under way, by id; those that are gone are left out."""
    wanted = [
        item.child_id
        for item in progress.items.values()
        if item.state is ItemState.RUNNING and item.child_id
    ]
    if not wanted:
        return {}
    tasks = await connection.fetch(run_statements.CHILD_TASKS, keys.tenant_id, wanted)
    found = {row["task_id"]: _task(row, keys) for row in tasks}
    if len(found) < len(wanted):
        runs = await connection.fetch(run_statements.CHILD_RUNS, keys.tenant_id, wanted)
        found |= {row["run_id"]: _run(row, keys) for row in runs}
    return found


def _task(row: Record, keys: TenantKeys) -> ChildEnd:
    state = TaskState(row["state"])
    if not state.is_final:
        return ChildEnd(None, waits=state is TaskState.WAITING)
    usage = Usage(**row["usage"])
    sealed = SealedJson(keys, TASKS)
    output, failure = None, None
    if row["result"] is not None:
        stored = sealed.open("result", row["task_id"], row["result"])
        output = output_of(row["agent"], step_rows.result_from(stored, usage))
    if row["failure"] is not None:
        failure = step_rows.failure_from(sealed.open("failure", row["task_id"], row["failure"]))
    return ChildEnd(state, output=output, failure=failure, usage=usage)


def _run(row: Record, keys: TenantKeys) -> ChildEnd:
    state = TaskState(row["state"])
    if row["ended_at"] is None:
        return ChildEnd(None, waits=state is TaskState.WAITING)
    sealed = SealedJson(keys, workflow_rows.RUNS)
    output, failure = None, None
    if row["output"] is not None:
        output = sealed.open("output", row["run_id"], row["output"])
    if row["failure"] is not None:
        failure = step_rows.failure_from(sealed.open("failure", row["run_id"], row["failure"]))
    return ChildEnd(state, output=output, failure=failure, usage=Usage(**row["usage"]))
