"""StoreErasureService, once in a process for all services in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import grpc.aio

from meshwright.erasure.v1 import store_erasure_service_pb2 as pb
from meshwright.erasure.v1.store_erasure_service_pb2_grpc import (
    StoreErasureServiceServicer,
    add_StoreErasureServiceServicer_to_server,
)
from meshwright_common.context import principal
from meshwright_common.erasure.stored import Found, StoredData, Subject, erase_stored
from meshwright_common.errors import NotFound, invalid
from meshwright_common.ids import parse_id

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]

STORE_ERASURE_SERVICE: Final = "meshwright.erasure.v1.StoreErasureService"


class NoSuchStores(NotFound):
    """The process has no stores of the service that was asked for."""

    text = "This process holds no stores of {service}."


def add_store_erasure(server: grpc.aio.Server, stores: Mapping[str, Sequence[StoredData]]) -> None:
    """Register the service with `server`, for the stores of each service by its name."""
    add_StoreErasureServiceServicer_to_server(StoreErasureServicer(stores), server)


class StoreErasureServicer(StoreErasureServiceServicer):
    """Serves StoreErasureService."""

    def __init__(self, stores: Mapping[str, Sequence[StoredData]]) -> None:
        self._stores = stores

    async def EraseStored(
        self, request: pb.EraseStoredRequest, context: Context
    ) -> pb.EraseStoredResponse:
        """Empty the stores of a service of a user or of the caller's tenant."""
        stores = self._stores.get(request.service)
        if stores is None:
            raise NoSuchStores(service=request.service)
        return answer_of(await erase_stored(stores, subject_of(request)))


def subject_of(request: pb.EraseStoredRequest) -> Subject:
    """Return whom to forget. Raises: InvalidArgument unless there is exactly one."""
    tenant_id = principal().tenant_id
    match request.WhichOneof("subject"):
        case "user_id":
            user_id = parse_id(request.user_id, "user_id")
            return Subject(tenant_id, user_id, keep_documents=request.keep_documents)
        case "tenant" if request.tenant:
            return Subject(tenant_id)
    raise invalid("subject", "must be a user_id, or tenant: true")


def answer_of(found: Sequence[Found]) -> pb.EraseStoredResponse:
    """Return the answer that says what was found."""
    return pb.EraseStoredResponse(
        stores=[
            pb.ErasedStore(
                store=one.store, removed_count=one.removed, remaining_count=one.remaining
            )
            for one in found
        ]
    )
