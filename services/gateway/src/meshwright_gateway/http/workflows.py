"""Workflows: what they do, their runs, and how a run looks."""

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Response

from meshwright.orchestrator.v1 import task_pb2, workflow_pb2
from meshwright.orchestrator.v1 import workflow_service_pb2 as pb
from meshwright_gateway.http import workflow_graph
from meshwright_gateway.http.agents import StateName
from meshwright_gateway.http.paging import (
    API_PREFIX,
    IdempotencyKey,
    IdPath,
    PageSize,
    PageToken,
)
from meshwright_gateway.http.schemas import workflows as schemas
from meshwright_gateway.wire import values
from meshwright_gateway.wire.work import TASK_STATES
from meshwright_gateway.wire.workflows import (
    create_request,
    run_view,
    start_request,
    step_state,
    workflow_view,
)

if TYPE_CHECKING:
    from meshwright.orchestrator.v1.workflow_service_pb2_grpc import WorkflowServiceAsyncStub

_NO_SCRIPTS: Final = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
_GRAPH: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The picture.",
        "content": {"image/svg+xml": {}, "text/plain": {}},
    }
}


def workflows_router(stub: "WorkflowServiceAsyncStub") -> APIRouter:
    """Return the routes about workflows and their runs."""
    router = APIRouter(prefix=f"{API_PREFIX}/workflows", tags=["workflows"])
    _add_runs(router, stub)
    _add_definitions(router, stub)
    return router


def _add_definitions(router: APIRouter, stub: "WorkflowServiceAsyncStub") -> None:
    @router.get("")
    async def list_workflows(
        page_size: PageSize = None, page_token: PageToken = ""
    ) -> schemas.WorkflowList:
        """Newest versions of the tenant's workflows by name, without their steps."""
        answer = await stub.ListWorkflows(
            pb.ListWorkflowsRequest(page=values.page_request(page_size, page_token))
        )
        return schemas.WorkflowList(
            workflows=[workflow_view(one) for one in answer.workflows],
            next_page_token=answer.page.next_page_token,
        )

    @router.post("")
    async def create_workflow(
        body: schemas.WorkflowCreation, idempotency_key: IdempotencyKey = ""
    ) -> schemas.Workflow:
        """Store a workflow, or the next version of the one with this name.

        The same definition again makes no new version. Runs that go on keep theirs.
        """
        answer = await stub.CreateWorkflow(create_request(body, idempotency_key))
        return workflow_view(answer.workflow)

    @router.get("/{workflow_id}")
    async def get_workflow(
        workflow_id: IdPath,
        version: Annotated[int, Query(ge=0, le=2**31 - 1, description="0: the newest.")] = 0,
    ) -> schemas.Workflow:
        """One version of a workflow."""
        answer = await stub.GetWorkflow(
            pb.GetWorkflowRequest(workflow_id=workflow_id, version=version)
        )
        return workflow_view(answer.workflow)

    @router.post("/{workflow_id}/runs", status_code=202)
    async def start_run(
        workflow_id: IdPath,
        body: schemas.RunStart,
        response: Response,
        idempotency_key: IdempotencyKey = "",
    ) -> schemas.Run:
        """Start a run with the caller's rights. Answered when it is stored: it will end."""
        answer = await stub.StartWorkflow(start_request(workflow_id, body, idempotency_key))
        response.headers["location"] = f"{API_PREFIX}/workflows/runs/{answer.run.run_id}"
        return run_view(answer.run)


def _add_runs(router: APIRouter, stub: "WorkflowServiceAsyncStub") -> None:
    @router.get("/runs")
    async def list_runs(
        workflow_id: Annotated[str, Query(max_length=64)] = "",
        state: Annotated[
            list[StateName] | None, Query(description="Only these states. Absent: all.")
        ] = None,
        schedule_id: Annotated[str, Query(max_length=64)] = "",
        page_size: PageSize = None,
        page_token: PageToken = "",
    ) -> schemas.RunList:
        """Runs, newest first, without their steps: the caller's; for administrators all."""
        answer = await stub.ListRuns(
            pb.ListRunsRequest(
                page=values.page_request(page_size, page_token),
                workflow_id=workflow_id,
                states=[TASK_STATES[name] for name in state or ()],
                schedule_id=schedule_id,
            )
        )
        return schemas.RunList(
            runs=[run_view(one) for one in answer.runs],
            next_page_token=answer.page.next_page_token,
        )

    @router.get("/runs/{run_id}")
    async def get_run(run_id: IdPath) -> schemas.Run:
        """One run with its steps."""
        answer = await stub.GetRun(pb.GetRunRequest(run_id=run_id))
        return run_view(answer.run)

    @router.post("/runs/{run_id}/cancel")
    async def cancel_run(run_id: IdPath) -> schemas.Run:
        """Cancel a run. Answers when nothing more of its steps can start; compensations follow."""
        answer = await stub.CancelRun(pb.CancelRunRequest(run_id=run_id))
        return run_view(answer.run)

    @router.get("/runs/{run_id}/graph", response_class=Response, responses=_GRAPH)
    async def draw_run(
        run_id: IdPath,
        format: Annotated[
            Literal["svg", "mermaid"], Query(description="`mermaid`: text, for documents.")
        ] = "svg",
    ) -> Response:
        """The steps of a run as a picture, coloured by their state."""
        run = (await stub.GetRun(pb.GetRunRequest(run_id=run_id))).run
        answer = await stub.GetWorkflow(
            pb.GetWorkflowRequest(workflow_id=run.workflow_id, version=run.workflow_version)
        )
        nodes = _nodes(answer.workflow.definition, run)
        if format == "mermaid":
            return Response(workflow_graph.mermaid(nodes), media_type="text/plain; charset=utf-8")
        state = values.enum_name(task_pb2.TaskState, run.state, "TASK_STATE_")
        title = f"{answer.workflow.name} {answer.workflow.version}"
        picture = workflow_graph.svg(title, state, nodes)
        return Response(picture, media_type="image/svg+xml", headers=_NO_SCRIPTS)


def _nodes(
    definition: workflow_pb2.WorkflowDefinition, run: workflow_pb2.WorkflowRun
) -> list[workflow_graph.Node]:
    done = {step.name: step for step in run.steps}
    return [
        workflow_graph.Node(
            name=step.name,
            state=step_state(done[step.name]) if step.name in done else "pending",
            action=_action(step.action),
            after=tuple(step.after),
            note=done[step.name].error.message[:300] if step.name in done else "",
        )
        for step in definition.steps
    ]


def _action(action: workflow_pb2.WorkflowAction) -> str:
    match action.WhichOneof("kind"):
        case "agent":
            return f"agent {action.agent.agent}"
        case "tool":
            return f"tool {action.tool.tool}"
        case "subworkflow":
            return f"workflow {action.subworkflow.workflow}"
        case "approval":
            return "approval"
        case _:
            return f"delay {action.delay.ToJsonString()}"
