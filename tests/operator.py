"""What an operator does to tenants of a running platform, without a command of its own each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask

from meshwright.session.v1 import directory_service_pb2, tenant_pb2
from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceStub
from meshwright_cli.first_start import OPERATOR
from meshwright_common import context
from meshwright_common.context import MESH_INTERNAL
from meshwright_common.identity.keys import load_keys
from meshwright_common.identity.tokens import TokenMinter
from meshwright_common.rpc.channels import Channels
from meshwright_common.testing.patience import PATIENT_DEADLINES
from tests.platform_process import Platform

if TYPE_CHECKING:
    from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceAsyncStub

NO_TENANT = "00000000-0000-0000-0000-000000000000"
T = TypeVar("T")


def as_operator(platform: Platform, call: Callable[[DirectoryServiceAsyncStub], Awaitable[T]]) -> T:
    """Call the directory as its operator, across tenants."""

    async def run() -> T:
        ring = load_keys(platform.data / "keys", [OPERATOR])
        peers = {name: f"ipv4:{address}" for name, address in platform.grpc.items()}
        async with Channels(
            TokenMinter(OPERATOR, ring.private_key(OPERATOR)), peers, deadlines=PATIENT_DEADLINES
        ) as channels:
            internal = context.service_context(
                OPERATOR, NO_TENANT, [MESH_INTERNAL], timeout_seconds=10
            )
            with context.bind(internal):
                return await call(DirectoryServiceStub(channels.open("session")))

    return asyncio.run(run())


def change_tenant(platform: Platform, tenant: tenant_pb2.Tenant, *paths: str) -> tenant_pb2.Tenant:
    """Change what `paths` name of a tenant."""
    request = directory_service_pb2.UpdateTenantRequest(
        tenant=tenant, update_mask=FieldMask(paths=paths)
    )

    async def call(directory: DirectoryServiceAsyncStub) -> tenant_pb2.Tenant:
        return (await directory.UpdateTenant(request)).tenant

    return as_operator(platform, call)


def agree(platform: Platform, tenant_id: str, **limits: int) -> None:
    """Agree limits with a tenant, by their names on the wire; 0 is none."""
    quota = tenant_pb2.AgreedQuota(**limits)  # type: ignore[arg-type]
    tenant = tenant_pb2.Tenant(tenant_id=tenant_id, agreed_quota=quota)
    change_tenant(platform, tenant, *(f"agreed_quota.{name}" for name in limits))


def allow_models(platform: Platform, tenant_id: str, *names: str) -> None:
    """Agree which models a tenant may use; none: all."""
    quota = tenant_pb2.AgreedQuota(allowed_models=tenant_pb2.ModelNames(names=names))
    tenant = tenant_pb2.Tenant(tenant_id=tenant_id, agreed_quota=quota)
    change_tenant(platform, tenant, "agreed_quota.allowed_models")


def suspend(platform: Platform, tenant_id: str, *, suspended: bool = True) -> None:
    """Suspend a tenant, or resume it."""
    tenant = tenant_pb2.Tenant(tenant_id=tenant_id, suspended=suspended)
    change_tenant(platform, tenant, "suspended")
