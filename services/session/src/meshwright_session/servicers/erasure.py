"""ErasureService."""

from collections.abc import Callable

from meshwright.session.v1 import erasure_service_pb2 as pb
from meshwright.session.v1.erasure_service_pb2_grpc import ErasureServiceServicer
from meshwright_common.context import principal
from meshwright_common.ids import parse_id
from meshwright_session.domain.erasure import Erasures
from meshwright_session.servicers import Context
from meshwright_session.wire import values
from meshwright_session.wire.erasure import erasure_message


class ErasureServicer(ErasureServiceServicer):
    """Serves ErasureService. `nudge` is called when there is something new to do."""

    def __init__(self, erasures: Erasures, nudge: Callable[[], None]) -> None:
        self._erasures = erasures
        self._nudge = nudge

    async def EraseUser(
        self, request: pb.EraseUserRequest, context: Context
    ) -> pb.EraseUserResponse:
        """Begin to erase a user."""
        user_id = parse_id(request.user_id, "user_id")
        # Kept to no request: whatever it is, a user is erased once.
        values.request_of(request, request.request_id, principal().subject)
        erasure = await self._erasures.erase_user(
            principal(), user_id, keep_documents=request.keep_documents
        )
        self._nudge()
        return pb.EraseUserResponse(erasure=erasure_message(erasure))

    async def EraseTenant(
        self, request: pb.EraseTenantRequest, context: Context
    ) -> pb.EraseTenantResponse:
        """Begin to erase the caller's tenant."""
        values.request_of(request, request.request_id, principal().subject)
        erasure = await self._erasures.erase_tenant(principal(), request.confirm_slug)
        self._nudge()
        return pb.EraseTenantResponse(erasure=erasure_message(erasure))

    async def GetErasure(
        self, request: pb.GetErasureRequest, context: Context
    ) -> pb.GetErasureResponse:
        """Return an erasure."""
        erasure_id = parse_id(request.erasure_id, "erasure_id")
        erasure = await self._erasures.get(principal(), erasure_id)
        return pb.GetErasureResponse(erasure=erasure_message(erasure))

    async def ListErasures(
        self, request: pb.ListErasuresRequest, context: Context
    ) -> pb.ListErasuresResponse:
        """Return a page of the tenant's erasures."""
        page = await self._erasures.list(principal(), values.page_request(request.page))
        return pb.ListErasuresResponse(
            erasures=[erasure_message(one) for one in page.rows],
            page=values.page_info(page.next_token),
        )
