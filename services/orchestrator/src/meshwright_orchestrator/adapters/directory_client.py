"""What users may do now, asked of the session service in this service's own name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshwright.session.v1 import directory_service_pb2 as pb
from meshwright_common.context import MESH_INTERNAL, Principal, bind, service_context
from meshwright_common.errors import Unauthenticated
from meshwright_orchestrator.domain.schedules import UserGone

if TYPE_CHECKING:
    from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceAsyncStub

ASK_SECONDS: Final = 2.0
SERVICE: Final = "orchestrator"


class DirectoryClient:
    """Rights: see the port."""

    def __init__(self, stub: DirectoryServiceAsyncStub) -> None:
        self._stub = stub

    async def of(self, tenant_id: str, user_id: str) -> Principal:
        call = service_context(SERVICE, tenant_id, (MESH_INTERNAL,), timeout_seconds=ASK_SECONDS)
        with bind(call):
            try:
                answer = await self._stub.ConfirmUser(
                    pb.ConfirmUserRequest(tenant_id=tenant_id, user_id=user_id)
                )
            except Unauthenticated as error:
                raise UserGone from error
        found = answer.principal
        return Principal(
            tenant_id=found.tenant_id,
            subject=found.subject,
            kind="user",
            permissions=frozenset(found.permissions),
            roles=tuple(found.roles),
        )
