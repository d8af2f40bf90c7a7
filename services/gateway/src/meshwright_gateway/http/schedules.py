"""What starts by the clock."""

from typing import TYPE_CHECKING

from fastapi import APIRouter

from meshwright.orchestrator.v1 import workflow_service_pb2 as pb
from meshwright_gateway.http.paging import (
    API_PREFIX,
    IdempotencyKey,
    IdPath,
    PageSize,
    PageToken,
)
from meshwright_gateway.http.schemas import schedules as schemas
from meshwright_gateway.wire import values
from meshwright_gateway.wire.schedules import create_request, schedule_view

if TYPE_CHECKING:
    from meshwright.orchestrator.v1.workflow_service_pb2_grpc import WorkflowServiceAsyncStub


def schedules_router(workflows: "WorkflowServiceAsyncStub") -> APIRouter:
    """Return the routes about schedules."""
    router = APIRouter(prefix=f"{API_PREFIX}/schedules", tags=["schedules"])

    @router.get("")
    async def list_schedules(
        page_size: PageSize = None, page_token: PageToken = ""
    ) -> schemas.ScheduleList:
        """Schedules by name: the caller's; for administrators all of the tenant."""
        answer = await workflows.ListSchedules(
            pb.ListSchedulesRequest(page=values.page_request(page_size, page_token))
        )
        return schemas.ScheduleList(
            schedules=[schedule_view(one) for one in answer.schedules],
            next_page_token=answer.page.next_page_token,
        )

    @router.post("", status_code=201)
    async def create_schedule(
        body: schemas.ScheduleCreation, idempotency_key: IdempotencyKey = ""
    ) -> schemas.Schedule:
        """Make a schedule. Its runs have the rights that the caller has then."""
        answer = await workflows.CreateSchedule(create_request(body, idempotency_key))
        return schedule_view(answer.schedule)

    @router.delete("/{schedule_id}", status_code=204)
    async def delete_schedule(schedule_id: IdPath) -> None:
        """Remove a schedule. Runs that it has started go on. Removing an absent one succeeds."""
        await workflows.DeleteSchedule(pb.DeleteScheduleRequest(schedule_id=schedule_id))

    @router.post("/{schedule_id}/pause")
    async def pause_schedule(schedule_id: IdPath) -> schemas.Schedule:
        """Pause a schedule: it fires nothing until it is resumed."""
        answer = await workflows.PauseSchedule(
            pb.PauseScheduleRequest(schedule_id=schedule_id, paused=True)
        )
        return schedule_view(answer.schedule)

    @router.post("/{schedule_id}/resume")
    async def resume_schedule(schedule_id: IdPath) -> schemas.Schedule:
        """Let a schedule go on. `missed_runs` says what happens to the firings of the pause."""
        answer = await workflows.PauseSchedule(
            pb.PauseScheduleRequest(schedule_id=schedule_id, paused=False)
        )
        return schedule_view(answer.schedule)

    return router
