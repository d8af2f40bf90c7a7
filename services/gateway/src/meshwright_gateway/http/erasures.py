"""Erasing users and the tenant, and the receipts."""

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Response

from meshwright.session.v1 import erasure_service_pb2
from meshwright_gateway.http.paging import API_PREFIX, IdempotencyKey, IdPath, PageSize, PageToken
from meshwright_gateway.http.schemas import erasures as schemas
from meshwright_gateway.wire import values
from meshwright_gateway.wire.erasures import erasure_view

if TYPE_CHECKING:
    from meshwright.session.v1.erasure_service_pb2_grpc import ErasureServiceAsyncStub


def erasures_router(erasures: "ErasureServiceAsyncStub") -> APIRouter:
    """Return the routes about erasures."""
    router = APIRouter(prefix=API_PREFIX, tags=["directory"])

    @router.delete("/users/{user_id}", status_code=202)
    async def erase_user(
        user_id: IdPath,
        response: Response,
        keep_documents: Annotated[
            bool, Query(description="Keep documents that the user uploaded, without the name.")
        ] = False,
        idempotency_key: IdempotencyKey = "",
    ) -> schemas.Erasure:
        """Erase a user from every store. The user's keys are refused at once; poll the answer."""
        answer = await erasures.EraseUser(
            erasure_service_pb2.EraseUserRequest(
                user_id=user_id, keep_documents=keep_documents, request_id=idempotency_key
            )
        )
        response.headers["location"] = f"{API_PREFIX}/erasures/{answer.erasure.erasure_id}"
        return erasure_view(answer.erasure)

    @router.delete("/tenant", status_code=202)
    async def erase_tenant(
        body: schemas.TenantErasure, response: Response, idempotency_key: IdempotencyKey = ""
    ) -> schemas.Erasure:
        """Erase the caller's tenant, with all keys: this is the last answer that they get."""
        answer = await erasures.EraseTenant(
            erasure_service_pb2.EraseTenantRequest(
                confirm_slug=body.confirm_slug, request_id=idempotency_key
            )
        )
        response.headers["location"] = f"{API_PREFIX}/erasures/{answer.erasure.erasure_id}"
        return erasure_view(answer.erasure)

    @router.get("/erasures")
    async def list_erasures(
        page_size: PageSize = None, page_token: PageToken = ""
    ) -> schemas.ErasureList:
        """Erasures of the tenant, newest first."""
        answer = await erasures.ListErasures(
            erasure_service_pb2.ListErasuresRequest(page=values.page_request(page_size, page_token))
        )
        return schemas.ErasureList(
            erasures=[erasure_view(one) for one in answer.erasures],
            next_page_token=answer.page.next_page_token,
        )

    @router.get("/erasures/{erasure_id}")
    async def get_erasure(erasure_id: IdPath) -> schemas.Erasure:
        """One erasure, with every store that was looked into, and its receipt."""
        answer = await erasures.GetErasure(
            erasure_service_pb2.GetErasureRequest(erasure_id=erasure_id)
        )
        return erasure_view(answer.erasure)

    return router
