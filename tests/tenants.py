"""Further tenants of a running platform, made as its operator does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from meshwright.session.v1 import directory_service_pb2 as directory
from meshwright.session.v1 import tenant_pb2
from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceStub
from meshwright_cli.first_start import OPERATOR
from meshwright_common import context
from meshwright_common.context import MESH_INTERNAL
from meshwright_common.identity.keys import load_keys
from meshwright_common.identity.tokens import TokenMinter
from meshwright_common.ids import new_id
from meshwright_common.rpc.channels import Channels
from meshwright_common.testing.patience import PATIENT_DEADLINES
from tests.platform_process import Platform

NO_TENANT = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class NewTenant:
    """A tenant with one user, its owner."""

    tenant_id: str
    user_id: str
    api_key: str = field(repr=False)


def new_tenant(
    platform: Platform, plan: tenant_pb2.Plan.ValueType = tenant_pb2.PLAN_ENTERPRISE
) -> NewTenant:
    """Create a tenant of its own for a test."""
    return asyncio.run(_create(platform, plan))


async def _create(platform: Platform, plan: tenant_pb2.Plan.ValueType) -> NewTenant:
    ring = load_keys(platform.data / "keys", [OPERATOR])
    peers = {name: f"ipv4:{address}" for name, address in platform.grpc.items()}
    name = f"tenant-{new_id()}"
    async with Channels(
        TokenMinter(OPERATOR, ring.private_key(OPERATOR)), peers, deadlines=PATIENT_DEADLINES
    ) as channels:
        internal = context.service_context(OPERATOR, NO_TENANT, [MESH_INTERNAL], timeout_seconds=10)
        with context.bind(internal):
            made = await DirectoryServiceStub(channels.open("session")).CreateTenant(
                directory.CreateTenantRequest(
                    tenant=tenant_pb2.Tenant(slug=name, display_name=name, plan=plan),
                    owner_name="owner",
                )
            )
    return NewTenant(made.tenant.tenant_id, made.owner.user_id, made.api_key)
