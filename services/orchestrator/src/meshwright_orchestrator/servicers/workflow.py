"""WorkflowService: protobuf in, domain call, protobuf out."""

from typing import Any, Protocol, TypeAlias

import grpc.aio

from meshwright.orchestrator.v1 import workflow_service_pb2
from meshwright.orchestrator.v1.workflow_service_pb2_grpc import WorkflowServiceServicer

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


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

    def __init__(self, schedules: Schedules) -> None:
        self._schedules = schedules

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
