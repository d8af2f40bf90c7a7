"""Guards on what goes to models and what comes back."""

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path

from meshwright.model_router.v1 import guard_service_pb2 as pb
from meshwright_gateway.http.paging import API_PREFIX, PageSize, PageToken
from meshwright_gateway.http.schemas import guards as schemas
from meshwright_gateway.wire import guards, values

if TYPE_CHECKING:
    from meshwright.model_router.v1.guard_service_pb2_grpc import GuardServiceAsyncStub

GuardName = Annotated[str, Path(pattern=r"^[a-z0-9_-]{1,64}$")]


def guards_router(stub: "GuardServiceAsyncStub") -> APIRouter:
    """Return the routes about guards."""
    router = APIRouter(prefix=f"{API_PREFIX}/guards", tags=["guards"])

    @router.get("")
    async def list_guards(
        page_size: PageSize = None, page_token: PageToken = ""
    ) -> schemas.GuardList:
        """Guards of the tenant by name, the operator's included."""
        answer = await stub.ListGuards(
            pb.ListGuardsRequest(page=values.page_request(page_size, page_token))
        )
        return schemas.GuardList(
            guards=[guards.guard_view(one) for one in answer.guards],
            next_page_token=answer.page.next_page_token,
        )

    @router.put("/{name}")
    async def set_guard(name: GuardName, body: schemas.GuardSet) -> schemas.Guard:
        """Create a guard, or replace the one with its name. In force 2 s later everywhere."""
        answer = await stub.SetGuard(pb.SetGuardRequest(guard=guards.guard_message(name, body)))
        return guards.guard_view(answer.guard)

    @router.delete("/{name}", status_code=204)
    async def delete_guard(name: GuardName) -> None:
        """Remove a guard. Removing an absent one succeeds."""
        await stub.DeleteGuard(pb.DeleteGuardRequest(name=name))

    @router.post("/check")
    async def check_text(body: schemas.TextCheck) -> schemas.CheckedText:
        """What the guards in force would do with a text."""
        answer = await stub.CheckText(guards.check_request(body))
        return guards.checked_view(answer)

    return router
