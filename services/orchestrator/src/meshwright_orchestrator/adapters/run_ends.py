"""The end of a run, told to the person that it acts for, with the change that is the end."""

from typing import Final

from meshwright_common.events.notification import Notice, tell
from meshwright_common.storage.postgres import Connection
from meshwright_orchestrator.adapters.task_ends import SOURCE
from meshwright_orchestrator.domain.models import TaskState
from meshwright_orchestrator.domain.workflows.progress import Run

_ENDS: Final = {
    TaskState.COMPLETED: "has completed",
    TaskState.FAILED: "has failed",
    TaskState.CANCELLED: "was cancelled",
    TaskState.EXPIRED: "did not end in time",
}


async def announce_end(connection: Connection, run: Run) -> None:
    """Tell that a run ended, unless it was a step of another one. No content."""
    if run.parent_run_id:
        return
    notice = Notice(
        user_id=run.owner.subject,
        kind=f"workflow.{run.state.value}",
        title=f"A run of a workflow {_ENDS[run.state]}.",
        resource=f"workflow_run/{run.run_id}",
        details={
            "run_id": run.run_id,
            "workflow_id": run.workflow_id,
            "workflow_version": run.workflow_version,
            "schedule_id": run.schedule_id,
            "error_reason": "" if run.failure is None else run.failure.reason,
        },
    )
    await tell(
        connection,
        notice,
        source=SOURCE,
        tenant_id=run.tenant_id,
        correlation_id=run.correlation_id,
    )
