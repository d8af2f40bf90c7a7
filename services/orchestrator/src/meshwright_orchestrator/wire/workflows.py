"""Workflows and their runs: protobuf to domain and back."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from google.protobuf import timestamp_pb2

from meshwright.orchestrator.v1 import workflow_pb2, workflow_service_pb2
from meshwright_common.errors import invalid
from meshwright_common.ids import parse_id
from meshwright_orchestrator.domain.waiting import interrupt_id
from meshwright_orchestrator.domain.workflows.definition import (
    ApprovalAction,
    ToolAction,
    Workflow,
    WorkflowStep,
)
from meshwright_orchestrator.domain.workflows.desk import Shown, Start
from meshwright_orchestrator.domain.workflows.inputs import MAX_INPUT_BYTES
from meshwright_orchestrator.domain.workflows.planner import action_of
from meshwright_orchestrator.domain.workflows.ports import NewWorkflow
from meshwright_orchestrator.domain.workflows.progress import (
    Item,
    ItemKind,
    ItemState,
    Progress,
    Run,
    StepRun,
    StepState,
)
from meshwright_orchestrator.wire import values
from meshwright_orchestrator.wire.events import error_message
from meshwright_orchestrator.wire.structs import object_from, value_message
from meshwright_orchestrator.wire.tasks import STATES, request_id_from
from meshwright_orchestrator.wire.workflow_definitions import (
    definition_from,
    definition_message,
)

MAX_VERSION: Final = 2**31 - 1
_STEP_STATES: Final = {
    StepState.PENDING: workflow_pb2.WORKFLOW_STEP_STATE_PENDING,
    StepState.RUNNING: workflow_pb2.WORKFLOW_STEP_STATE_RUNNING,
    StepState.WAITING: workflow_pb2.WORKFLOW_STEP_STATE_WAITING,
    StepState.COMPLETED: workflow_pb2.WORKFLOW_STEP_STATE_COMPLETED,
    StepState.SKIPPED: workflow_pb2.WORKFLOW_STEP_STATE_SKIPPED,
    StepState.FAILED: workflow_pb2.WORKFLOW_STEP_STATE_FAILED,
    StepState.CANCELLED: workflow_pb2.WORKFLOW_STEP_STATE_CANCELLED,
    StepState.COMPENSATED: workflow_pb2.WORKFLOW_STEP_STATE_COMPENSATED,
}


def new_workflow_from(request: workflow_service_pb2.CreateWorkflowRequest) -> NewWorkflow:
    """Return what is to be stored. Raises: InvalidArgument naming the field."""
    expected = request.expected_version if request.HasField("expected_version") else None
    if expected is not None and expected < 0:
        raise invalid("expected_version", "must not be negative")
    if not request.HasField("definition"):
        raise invalid("definition", "must not be empty")
    return NewWorkflow(
        name=request.name,
        definition=definition_from(request.definition),
        expected_version=expected,
        request_id=request_id_from(request.request_id),
    )


def start_from(request: workflow_service_pb2.StartWorkflowRequest) -> Start:
    """Return which run is to be started. Raises: InvalidArgument naming the field."""
    return Start(
        workflow_id=parse_id(request.workflow_id, "workflow_id"),
        version=version_from(request.version),
        input=object_from(request.input, "input", MAX_INPUT_BYTES),
        request_id=request_id_from(request.request_id),
        start_at=_moment(request.start_time) if request.HasField("start_time") else None,
    )


def version_from(version: int) -> int:
    """Return a checked version, 0: the newest. Raises: InvalidArgument."""
    if version < 0:
        raise invalid("version", "must not be negative")
    return version


def _moment(message: timestamp_pb2.Timestamp) -> datetime:
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise invalid("start_time", "is not a time") from None


def workflow_message(workflow: Workflow, *, with_steps: bool = True) -> workflow_pb2.Workflow:
    """Return a workflow as the wire shows it."""
    definition = definition_message(workflow.definition)
    if not with_steps:
        definition.ClearField("steps")
    message = workflow_pb2.Workflow(
        workflow_id=workflow.workflow_id,
        name=workflow.name,
        version=workflow.version,
        definition=definition,
        created_by=workflow.created_by,
    )
    message.create_time.FromDatetime(workflow.created_at)
    message.update_time.FromDatetime(workflow.updated_at)
    return message


def shown_message(shown: Shown) -> workflow_pb2.WorkflowRun:
    """Return a run with its steps, in the order of the definition."""
    message = run_message(shown.progress.run)
    message.steps.extend(_steps(shown.workflow.definition.steps, shown.progress))
    return message


def run_message(run: Run) -> workflow_pb2.WorkflowRun:
    """Return a run without its steps."""
    message = workflow_pb2.WorkflowRun(
        run_id=run.run_id,
        workflow_id=run.workflow_id,
        workflow_version=run.workflow_version,
        state=STATES[run.state],
        input=values.struct_message(run.input),
        usage=values.usage_message(run.usage),
        schedule_id=run.schedule_id,
        parent_run_id=run.parent_run_id,
        created_by=run.owner.subject,
    )
    if run.output is not None:
        message.output.CopyFrom(value_message(run.output))
    if run.failure is not None:
        message.error.CopyFrom(error_message(run.failure))
    message.create_time.FromDatetime(run.created_at)
    if run.ended_at is not None:
        message.end_time.FromDatetime(run.ended_at)
    return message


def _steps(
    steps: Iterable[WorkflowStep], progress: Progress
) -> Iterable[workflow_pb2.WorkflowStepRun]:
    for step in steps:
        run = progress.steps.get(step.name)
        if run is None:
            # One that never began has no row; of a run that is over it will not begin.
            final = progress.run.state.is_final
            run = StepRun(step.name, StepState.CANCELLED if final else StepState.PENDING)
        yield _step_message(step, run, progress)


def _step_message(
    step: WorkflowStep, run: StepRun, progress: Progress
) -> workflow_pb2.WorkflowStepRun:
    items = progress.items_of(step.name)
    undoing = progress.items_of(step.name, ItemKind.COMPENSATION)
    children = [
        child
        for item in (*items, *undoing)
        if not isinstance(action_of(step, item.kind), ToolAction)
        for child in item.child_ids
    ]
    message = workflow_pb2.WorkflowStepRun(
        name=step.name,
        state=_STEP_STATES[run.state],
        attempt=max((item.attempt for item in items), default=0),
        child_ids=children,
        interrupt_id=_open_question(step, (*items, *undoing)),
    )
    if run.output is not None:
        message.output.CopyFrom(value_message(run.output))
    failures = [item.failure for item in (*items, *undoing) if item.failure is not None]
    failure = run.failure or (failures[-1] if failures else None)
    if failure is not None:
        message.error.CopyFrom(error_message(failure))
    if run.started_at is not None:
        message.start_time.FromDatetime(run.started_at)
    if run.ended_at is not None:
        message.end_time.FromDatetime(run.ended_at)
    return message


def _open_question(step: WorkflowStep, items: Iterable[Item]) -> str:
    """Return the interrupt of an approval that waits: the only one of the only step of its task."""
    for item in items:
        is_approval = isinstance(action_of(step, item.kind), ApprovalAction)
        if is_approval and item.waits and item.state is ItemState.RUNNING:
            return interrupt_id(item.child_id, 1, 0)
    return ""
