"""Workflows for the tests: definitions as data, and runs followed to their end."""

from typing import Any

from google.protobuf import json_format

from meshwright.orchestrator.v1 import task_pb2, workflow_pb2, workflow_service_pb2
from meshwright_common.context import Principal
from meshwright_common.testing.waiting import eventually
from services.orchestrator.tests.mesh import PERMISSIONS, Mesh, Stubs, acting

RIGHTS = PERMISSIONS | {"workflow:read", "workflow:write", "workflow:execute"}


def author(mesh: Mesh) -> Principal:
    """Return the caller, who may do everything with workflows."""
    mesh.caller = Principal(mesh.caller.tenant_id, mesh.caller.subject, "user", RIGHTS)
    return mesh.caller


def add(name: str, *numbers: object, **more: Any) -> dict[str, Any]:
    """Return a step that adds numbers, which may be expressions."""
    return {"name": name, "action": tool("add", numbers=list(numbers)), **more}


def tool(name: str, **arguments: Any) -> dict[str, Any]:
    """Return the action that calls a tool."""
    return {"tool": {"tool": name, "arguments": arguments}}


async def created(
    stubs: Stubs, caller: Principal, *steps: dict[str, Any], name: str = "flow", **more: Any
) -> workflow_pb2.Workflow:
    """Store a workflow."""
    definition = json_format.ParseDict(
        {"steps": list(steps), **more}, workflow_pb2.WorkflowDefinition()
    )
    with acting(caller):
        answer = await stubs.workflows.CreateWorkflow(
            workflow_service_pb2.CreateWorkflowRequest(name=name, definition=definition)
        )
    workflow: workflow_pb2.Workflow = answer.workflow
    return workflow


async def started(
    stubs: Stubs, caller: Principal, workflow: workflow_pb2.Workflow, **given: Any
) -> workflow_pb2.WorkflowRun:
    """Start a run of a workflow with an input."""
    request = workflow_service_pb2.StartWorkflowRequest(workflow_id=workflow.workflow_id)
    request.input.update(given)
    with acting(caller):
        answer = await stubs.workflows.StartWorkflow(request)
    run: workflow_pb2.WorkflowRun = answer.run
    return run


async def read(stubs: Stubs, caller: Principal, run_id: str) -> workflow_pb2.WorkflowRun:
    """Return a run."""
    with acting(caller):
        answer = await stubs.workflows.GetRun(workflow_service_pb2.GetRunRequest(run_id=run_id))
    run: workflow_pb2.WorkflowRun = answer.run
    return run


async def ended(
    stubs: Stubs, caller: Principal, run: workflow_pb2.WorkflowRun, within: float = 15.0
) -> workflow_pb2.WorkflowRun:
    """Wait for the end of a run, compensations done; return it."""
    found = run

    async def is_over() -> bool:
        nonlocal found
        found = await read(stubs, caller, run.run_id)
        return found.HasField("end_time")

    await eventually(is_over, timeout_seconds=within)
    return found


def states(run: workflow_pb2.WorkflowRun) -> dict[str, str]:
    """Return the states of a run's steps by name, in small letters."""
    names = workflow_pb2.WorkflowStepState.Name
    return {
        step.name: names(step.state).removeprefix("WORKFLOW_STEP_STATE_").lower()
        for step in run.steps
    }


def state(run: workflow_pb2.WorkflowRun) -> str:
    """Return the state of a run in small letters."""
    return task_pb2.TaskState.Name(run.state).removeprefix("TASK_STATE_").lower()


def output(message: Any) -> Any:
    """Return the output of a run or a step as JSON."""
    return json_format.MessageToDict(message.output)
