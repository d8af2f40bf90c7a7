"""What tasks ask people, and the answers."""

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query

from meshwright.orchestrator.v1 import agent_service_pb2
from meshwright_common.errors import InvalidArgument
from meshwright_gateway.http.paging import (
    API_PREFIX,
    IdempotencyKey,
    IdPath,
    PageSize,
    PageToken,
)
from meshwright_gateway.http.schemas import interrupts as schemas
from meshwright_gateway.http.schemas import work
from meshwright_gateway.wire import values
from meshwright_gateway.wire.interrupts import open_view, renamed
from meshwright_gateway.wire.work import task_view

if TYPE_CHECKING:
    from meshwright.orchestrator.v1.agent_service_pb2_grpc import AgentServiceAsyncStub


def interrupts_router(agents: "AgentServiceAsyncStub") -> APIRouter:
    """Return the routes about interrupts of tasks."""
    router = APIRouter(prefix=API_PREFIX, tags=["tasks"])

    @router.get("/interrupts")
    async def list_interrupts(
        task_id: Annotated[str, Query(max_length=64, description="Only of this task.")] = "",
        page_size: PageSize = None,
        page_token: PageToken = "",
    ) -> schemas.OpenInterruptList:
        """What tasks ask you, oldest first; of the whole tenant for its administrators."""
        answer = await agents.ListInterrupts(
            agent_service_pb2.ListInterruptsRequest(
                page=values.page_request(page_size, page_token), task_id=task_id
            )
        )
        return schemas.OpenInterruptList(
            interrupts=[open_view(asked) for asked in answer.interrupts],
            next_page_token=answer.page.next_page_token,
        )

    @router.post("/tasks/{task_id}/resume")
    async def resume_task(
        task_id: IdPath, body: schemas.TaskAnswer, idempotency_key: IdempotencyKey = ""
    ) -> work.Task:
        """Answer what a task asks. The first answer counts; the task goes on by itself."""
        request = agent_service_pb2.ResumeTaskRequest(
            task_id=task_id,
            interrupt_id=body.interrupt_id,
            payload=values.struct_from(body.answer),
            request_id=idempotency_key,
        )
        try:
            answer = await agents.ResumeTask(request)
        except InvalidArgument as error:
            raise renamed(error) from error
        return task_view(answer.task)

    return router
