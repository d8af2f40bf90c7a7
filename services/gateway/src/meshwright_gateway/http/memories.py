"""What the platform remembers of the caller."""

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query

from meshwright.session.v1 import memory_service_pb2
from meshwright_common.ids import new_id
from meshwright_gateway.errors import misshapen
from meshwright_gateway.http.paging import API_PREFIX, IdempotencyKey, IdPath, PageSize, PageToken
from meshwright_gateway.http.schemas import memories as schemas
from meshwright_gateway.wire import memories as wire
from meshwright_gateway.wire import values

if TYPE_CHECKING:
    from meshwright.session.v1.memory_service_pb2_grpc import MemoryServiceAsyncStub

SessionId = Annotated[str, Query(max_length=64, description="Only those learned in this session.")]


def memories_router(memories: "MemoryServiceAsyncStub") -> APIRouter:
    """Return the routes about memories."""
    router = APIRouter(prefix=f"{API_PREFIX}/memories", tags=["memories"])

    @router.get("")
    async def list_memories(
        kind: Annotated[schemas.MemoryKindName | None, Query(description="Absent: all.")] = None,
        session_id: SessionId = "",
        include_superseded: Annotated[
            bool, Query(description="Also those that hold no longer.")
        ] = False,
        page_size: PageSize = None,
        page_token: PageToken = "",
    ) -> schemas.MemoryList:
        """Memories of the caller, newest first."""
        answer = await memories.ListMemories(
            memory_service_pb2.ListMemoriesRequest(
                kinds=wire.kinds(() if kind is None else (kind,)),
                session_id=session_id,
                include_superseded=include_superseded,
                page=values.page_request(page_size, page_token),
            )
        )
        return schemas.MemoryList(
            memories=wire.memory_views(answer.memories),
            next_page_token=answer.page.next_page_token,
        )

    @router.post("", status_code=201)
    async def remember(
        body: schemas.MemoriesCreate, idempotency_key: IdempotencyKey = ""
    ) -> schemas.MemoriesStored:
        """Store memories. What says the same is renewed, what contradicts supersedes."""
        answer = await memories.Remember(wire.remember_request(body, idempotency_key or new_id()))
        return schemas.MemoriesStored(memories=wire.memory_views(answer.memories))

    @router.post("/search")
    async def recall(body: schemas.MemorySearch) -> schemas.MemorySearchAnswer:
        """Find memories that fit a question, best first."""
        return wire.search_view(await memories.Recall(wire.recall_request(body)))

    @router.delete("/{memory_id}", status_code=204)
    async def forget_memory(memory_id: IdPath) -> None:
        """Forget a memory: recalled nowhere from now on. An absent one is forgotten already."""
        await memories.Forget(
            memory_service_pb2.ForgetRequest(
                memory_ids=memory_service_pb2.MemoryIds(values=[memory_id])
            )
        )

    @router.delete("")
    async def forget_memories(
        session_id: SessionId = "",
        everything: Annotated[
            bool, Query(alias="all", description="All memories of the caller.")
        ] = False,
    ) -> schemas.MemoriesForgotten:
        """Forget the memories of a session, or all with `all=true`."""
        if bool(session_id) == everything:
            raise misshapen("session_id", "give a session_id, or all=true: one of them")
        request = memory_service_pb2.ForgetRequest()
        if everything:
            request.all = True
        else:
            request.session_id = session_id
        answer = await memories.Forget(request)
        return schemas.MemoriesForgotten(forgotten_count=answer.forgotten_count)

    return router
