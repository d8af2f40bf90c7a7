"""GuardService: protobuf in, domain call, protobuf out."""

from collections.abc import Callable
from typing import Any, TypeAlias

import grpc.aio

from meshwright.model_router.v1 import guard_service_pb2 as pb
from meshwright.model_router.v1.guard_service_pb2_grpc import GuardServiceServicer
from meshwright_common.context import principal
from meshwright_model_router.domain.guards.administration import (
    Addresses,
    GuardAdministration,
    name_of,
)
from meshwright_model_router.domain.guards.guard_store import GuardRecord
from meshwright_model_router.wire import guards, responses
from meshwright_model_router.wire.paging import page_of

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class GuardServicer(GuardServiceServicer):
    """Serves GuardService. `addresses`: where judges of tenants may be, as it is now."""

    def __init__(
        self, administration: GuardAdministration, addresses: Callable[[], Addresses]
    ) -> None:
        self._administration = administration
        self._addresses = addresses

    async def SetGuard(self, request: pb.SetGuardRequest, context: Context) -> pb.SetGuardResponse:
        """Create or replace a guard of the caller's tenant."""
        stored = await self._administration.put(
            principal().tenant_id,
            guards.guard_from(request.guard),
            request.guard.etag,
            self._addresses(),
        )
        return pb.SetGuardResponse(guard=guards.record_message(stored))

    async def ListGuards(
        self, request: pb.ListGuardsRequest, context: Context
    ) -> pb.ListGuardsResponse:
        """List the guards of the caller's tenant and the operator's, by name."""
        tenant_id = principal().tenant_id
        found = await self._administration.records(tenant_id)
        page, info = page_of(found, name_of, request.page, tenant_id, "guards")
        messages = [
            guards.record_message(one)
            if isinstance(one, GuardRecord)
            else guards.guard_message(one)
            for one in page
        ]
        return pb.ListGuardsResponse(guards=messages, page=info)

    async def DeleteGuard(
        self, request: pb.DeleteGuardRequest, context: Context
    ) -> pb.DeleteGuardResponse:
        """Remove a guard of the caller's tenant."""
        await self._administration.delete(principal().tenant_id, request.name)
        return pb.DeleteGuardResponse()

    async def CheckText(
        self, request: pb.CheckTextRequest, context: Context
    ) -> pb.CheckTextResponse:
        """Say what the guards in force would do with a text."""
        text, side = guards.checked_text(request)
        checked = await self._administration.check(principal().tenant_id, text, side, request.model)
        return pb.CheckTextResponse(
            blocked=checked.blocked,
            text="" if checked.blocked else checked.text,
            findings=[responses.finding_message(one) for one in checked.findings],
        )
