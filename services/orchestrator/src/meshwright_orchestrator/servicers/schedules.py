"""The calls of WorkflowService about schedules: protobuf in, domain call, protobuf out."""

from typing import Final

from meshwright.orchestrator.v1 import schedule_pb2, workflow_service_pb2
from meshwright.types.v1 import page_pb2
from meshwright_common.clock import Clock
from meshwright_common.context import principal
from meshwright_common.ids import parse_id
from meshwright_orchestrator.domain.schedule_desk import ScheduleDesk
from meshwright_orchestrator.wire import pages, schedules, tasks

MAX_PAGE_BYTES: Final = 2 * 1024 * 1024
"""A page of large schedules ends early: a message has 4 MiB at most."""


class ScheduleCalls:
    """Serves the four calls."""

    def __init__(self, desk: ScheduleDesk, clock: Clock) -> None:
        self._desk = desk
        self._clock = clock

    async def create(
        self, request: workflow_service_pb2.CreateScheduleRequest
    ) -> workflow_service_pb2.CreateScheduleResponse:
        """Make a schedule, or find the one of the request_id."""
        request_id = tasks.request_id_from(request.request_id)
        wish = schedules.wish_from(request.schedule, self._clock.now())
        made = await self._desk.create(principal(), wish, request_id)
        return workflow_service_pb2.CreateScheduleResponse(
            schedule=schedules.schedule_message(made)
        )

    async def list(
        self, request: workflow_service_pb2.ListSchedulesRequest
    ) -> workflow_service_pb2.ListSchedulesResponse:
        """List the schedules that the caller may see; the page token is the last name seen."""
        caller = principal()
        scope = (caller.tenant_id, caller.subject, "schedules")
        size, last = pages.page_of(request.page, *scope)
        found = await self._desk.list(caller, after=last, limit=size + 1)
        shown: list[schedule_pb2.Schedule] = []
        room = MAX_PAGE_BYTES
        for schedule in found[:size]:
            message = schedules.schedule_message(schedule)
            room -= message.ByteSize()
            if shown and room < 0:
                break
            shown.append(message)
        more = len(found) > len(shown)
        token = pages.page_token(shown[-1].name, *scope) if more and shown else ""
        return workflow_service_pb2.ListSchedulesResponse(
            schedules=shown, page=page_pb2.PageInfo(next_page_token=token)
        )

    async def delete(
        self, request: workflow_service_pb2.DeleteScheduleRequest
    ) -> workflow_service_pb2.DeleteScheduleResponse:
        """Remove a schedule."""
        await self._desk.remove(principal(), parse_id(request.schedule_id, "schedule_id"))
        return workflow_service_pb2.DeleteScheduleResponse()

    async def pause(
        self, request: workflow_service_pb2.PauseScheduleRequest
    ) -> workflow_service_pb2.PauseScheduleResponse:
        """Pause a schedule, or let it go on."""
        schedule_id = parse_id(request.schedule_id, "schedule_id")
        changed = await self._desk.set_paused(principal(), schedule_id, paused=request.paused)
        return workflow_service_pb2.PauseScheduleResponse(
            schedule=schedules.schedule_message(changed)
        )
