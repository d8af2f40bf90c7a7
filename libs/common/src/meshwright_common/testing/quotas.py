"""A stand-in for session's directory: the quotas and users that a test says, none by default."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import grpc.aio

from meshwright.session.v1 import directory_service_pb2, tenant_pb2
from meshwright.session.v1.directory_service_pb2_grpc import (
    DirectoryServiceServicer,
    add_DirectoryServiceServicer_to_server,
)
from meshwright.types.v1 import principal_pb2
from meshwright_common.context import MESH_INTERNAL, Principal, principal
from meshwright_common.errors import ServiceError, Unauthenticated


@dataclass
class QuotaDirectory(DirectoryServiceServicer):
    """Answers GetQuota and ConfirmUser. `limits`: by tenant; `users`: by their id, absent ones are
    disabled. `error`: what calls raise. `gate`: they wait for.
    """

    limits: dict[str, tenant_pb2.Quota] = field(default_factory=dict)
    used: dict[str, tenant_pb2.Quota] = field(default_factory=dict)
    suspended: set[str] = field(default_factory=set)
    users: dict[str, Principal] = field(default_factory=dict)
    error: ServiceError | None = None
    asked: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    def register(self, server: grpc.aio.Server) -> None:
        """Serve at `server`."""
        add_DirectoryServiceServicer_to_server(self, server)

    async def GetQuota(
        self,
        request: directory_service_pb2.GetQuotaRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> directory_service_pb2.GetQuotaResponse:
        """Return what the test says of the caller's tenant."""
        tenant_id = principal().tenant_id
        self.asked.append(tenant_id)
        self.reached.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return directory_service_pb2.GetQuotaResponse(
            quota=self.limits.get(tenant_id),
            used=self.used.get(tenant_id),
            plan=tenant_pb2.PLAN_STARTER,
            state=(
                tenant_pb2.TENANT_STATE_SUSPENDED
                if tenant_id in self.suspended
                else tenant_pb2.TENANT_STATE_ACTIVE
            ),
            alert_percents=(80, 90, 100),
        )

    async def ConfirmUser(
        self,
        request: directory_service_pb2.ConfirmUserRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> directory_service_pb2.ConfirmUserResponse:
        """Return what the test says of a user; services alone may ask."""
        if self.error is not None:
            raise self.error
        user = self.users.get(request.user_id)
        if user is None or user.tenant_id != request.tenant_id:
            raise Unauthenticated("there is no such user, or it is disabled")
        assert principal().has(MESH_INTERNAL)
        return directory_service_pb2.ConfirmUserResponse(
            principal=principal_pb2.Principal(
                tenant_id=user.tenant_id,
                subject=user.subject,
                kind=principal_pb2.PRINCIPAL_KIND_USER,
                permissions=sorted(user.permissions),
                roles=user.roles,
            )
        )
