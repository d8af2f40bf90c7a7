"""WorkflowService: protobuf in, domain call, protobuf out."""

from typing import Any, Final, Protocol, TypeAlias

import grpc.aio

from meshwright.orchestrator.v1 import workflow_pb2, workflow_service_pb2
from meshwright.orchestrator.v1.workflow_service_pb2_grpc import WorkflowServiceServicer
from meshwright.types.v1 import page_pb2
from meshwright_common.context import principal
from meshwright_common.ids import parse_id
from meshwright_orchestrator.domain.tasks import ADMIN
from meshwright_orchestrator.domain.workflows.desk import WorkflowDesk
from meshwright_orchestrator.domain.workflows.ports import RunFilter
from meshwright_orchestrator.wire import pages, workflows
from meshwright_orchestrator.wire.tasks import states_from

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

MAX_PAGE_BYTES: Final = 2 * 1024 * 1024
"""A page of large runs ends early: a message has 4 MiB at most."""


class Schedules(Protocol):
    """The four calls about schedules."""

    async def create(
        self, request: workflow_service_pb2.CreateScheduleRequest
    ) -> workflow_service_pb2.CreateScheduleResponse:
        """Make a schedule."""
        ...

    async def list(
        self, request: workflow_service_pb2.ListSchedulesRequest
    ) -> workflow_service_pb2.ListSchedulesResponse:
        """List schedules by name."""
        ...

    async def delete(
        self, request: workflow_service_pb2.DeleteScheduleRequest
    ) -> workflow_service_pb2.DeleteScheduleResponse:
        """Remove a schedule."""
        ...

    async def pause(
        self, request: workflow_service_pb2.PauseScheduleRequest
    ) -> workflow_service_pb2.PauseScheduleResponse:
        """Pause a schedule, or let it go on."""
        ...


class WorkflowServicer(WorkflowServiceServicer):
    """Serves WorkflowService."""

    def __init__(self, desk: WorkflowDesk, schedules: Schedules) -> None:
        self._desk = desk
        self._schedules = schedules

    async def CreateWorkflow(
        self, request: workflow_service_pb2.CreateWorkflowRequest, context: Context
    ) -> workflow_service_pb2.CreateWorkflowResponse:
        """Store a workflow, or its next version."""
        workflow = await self._desk.create(principal(), workflows.new_workflow_from(request))
        return workflow_service_pb2.CreateWorkflowResponse(
            workflow=workflows.workflow_message(workflow)
        )

    async def GetWorkflow(
        self, request: workflow_service_pb2.GetWorkflowRequest, context: Context
    ) -> workflow_service_pb2.GetWorkflowResponse:
        """Read one version of a workflow."""
        workflow_id = parse_id(request.workflow_id, "workflow_id")
        version = workflows.version_from(request.version)
        workflow = await self._desk.get(principal(), workflow_id, version)
        return workflow_service_pb2.GetWorkflowResponse(
            workflow=workflows.workflow_message(workflow)
        )

    async def ListWorkflows(
        self, request: workflow_service_pb2.ListWorkflowsRequest, context: Context
    ) -> workflow_service_pb2.ListWorkflowsResponse:
        """List the newest versions by name; the page token is the last name seen."""
        caller = principal()
        scope = (caller.tenant_id, "workflows")
        size, last = pages.page_of(request.page, *scope)
        found = await self._desk.list(caller, last, size + 1)
        more = len(found) > size
        return workflow_service_pb2.ListWorkflowsResponse(
            workflows=[workflows.workflow_message(one, with_steps=False) for one in found[:size]],
            page=page_pb2.PageInfo(
                next_page_token=pages.page_token(found[size - 1].name, *scope) if more else ""
            ),
        )

    async def StartWorkflow(
        self, request: workflow_service_pb2.StartWorkflowRequest, context: Context
    ) -> workflow_service_pb2.StartWorkflowResponse:
        """Start a run, or find the one of the request_id."""
        shown = await self._desk.start(principal(), workflows.start_from(request))
        return workflow_service_pb2.StartWorkflowResponse(run=workflows.shown_message(shown))

    async def GetRun(
        self, request: workflow_service_pb2.GetRunRequest, context: Context
    ) -> workflow_service_pb2.GetRunResponse:
        """Read one run with its steps."""
        shown = await self._desk.run(principal(), parse_id(request.run_id, "run_id"))
        return workflow_service_pb2.GetRunResponse(run=workflows.shown_message(shown))

    async def ListRuns(
        self, request: workflow_service_pb2.ListRunsRequest, context: Context
    ) -> workflow_service_pb2.ListRunsResponse:
        """List the runs that the caller may see, newest first."""
        caller = principal()
        states = states_from(request.states)
        workflow_id = parse_id(request.workflow_id, "workflow_id") if request.workflow_id else ""
        schedule_id = parse_id(request.schedule_id, "schedule_id") if request.schedule_id else ""
        scope = (caller.tenant_id, caller.subject, workflow_id, schedule_id, *sorted(states))
        size, last = pages.page_of(request.page, *scope)
        found = await self._desk.list_runs(
            caller,
            RunFilter(
                subject="" if caller.has(ADMIN) else caller.subject,
                workflow_id=workflow_id,
                states=states,
                schedule_id=schedule_id,
                before=parse_id(last, "page.page_token") if last else "",
                limit=size + 1,
            ),
        )
        shown: list[workflow_pb2.WorkflowRun] = []
        room = MAX_PAGE_BYTES
        for run in found[:size]:
            message = workflows.run_message(run)
            room -= message.ByteSize()
            if shown and room < 0:
                break
            shown.append(message)
        more = len(found) > len(shown)
        token = pages.page_token(shown[-1].run_id, *scope) if more and shown else ""
        return workflow_service_pb2.ListRunsResponse(
            runs=shown, page=page_pb2.PageInfo(next_page_token=token)
        )

    async def CancelRun(
        self, request: workflow_service_pb2.CancelRunRequest, context: Context
    ) -> workflow_service_pb2.CancelRunResponse:
        """Stop a run."""
        shown = await self._desk.cancel(principal(), parse_id(request.run_id, "run_id"))
        return workflow_service_pb2.CancelRunResponse(run=workflows.shown_message(shown))

    async def CreateSchedule(
        self, request: workflow_service_pb2.CreateScheduleRequest, context: Context
    ) -> workflow_service_pb2.CreateScheduleResponse:
        """Make a schedule."""
        return await self._schedules.create(request)

    async def ListSchedules(
        self, request: workflow_service_pb2.ListSchedulesRequest, context: Context
    ) -> workflow_service_pb2.ListSchedulesResponse:
        """List schedules by name."""
        return await self._schedules.list(request)

    async def DeleteSchedule(
        self, request: workflow_service_pb2.DeleteScheduleRequest, context: Context
    ) -> workflow_service_pb2.DeleteScheduleResponse:
        """Remove a schedule."""
        return await self._schedules.delete(request)

    async def PauseSchedule(
        self, request: workflow_service_pb2.PauseScheduleRequest, context: Context
    ) -> workflow_service_pb2.PauseScheduleResponse:
        """Pause a schedule, or let it go on."""
        return await self._schedules.pause(request)
