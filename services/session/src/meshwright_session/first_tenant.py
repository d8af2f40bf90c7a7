"""The first tenant of a platform: whoever starts one gets an owner's API key for it.

    channel = channels.open("session")
    first = await first_tenant(DirectoryServiceStub(channel), known_key=key_of_the_last_start)

Safe to repeat, at every start: there is one first tenant, and a new key is made only when the
known one does not work any more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from meshwright.session.v1 import directory_service_pb2 as pb
from meshwright.session.v1 import tenant_pb2
from meshwright_common import context
from meshwright_common.context import MESH_INTERNAL, CallContext, Principal
from meshwright_common.errors import Unauthenticated
from meshwright_common.identity import api_keys
from meshwright_session.domain.roles import OWNER, permissions_of

if TYPE_CHECKING:
    from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceAsyncStub

SLUG: Final = "default"
DISPLAY_NAME: Final = "Default"
OWNER_NAME: Final = "admin"
REQUEST_ID: Final = "first-tenant"
OWNER_PERMISSIONS: Final = permissions_of((OWNER,))
"""All that a member of a tenant can hold."""
NO_TENANT: Final = "00000000-0000-0000-0000-000000000000"
"""Tenant of a service's calls that are about no tenant: making one, looking up a key."""
TIMEOUT_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class FirstTenant:
    """The tenant, its owner, and a key that acts as the owner. `is_new_key`: made just now."""

    tenant_id: str
    owner_id: str
    api_key: str = field(repr=False)
    is_new_key: bool


async def first_tenant(
    directory: DirectoryServiceAsyncStub, *, service: str, known_key: str = ""
) -> FirstTenant:
    """Return the first tenant, making what is missing of tenant, owner and key.

    `directory` is a stub on a channel that signs in the name of `service`. `known_key` is the key
    of an earlier start; it is kept when it still opens the tenant. Raises: what the calls raise.
    """
    internal = context.service_context(
        service, NO_TENANT, [MESH_INTERNAL], timeout_seconds=TIMEOUT_SECONDS
    )
    with context.bind(internal):
        created = await directory.CreateTenant(
            pb.CreateTenantRequest(
                tenant=tenant_pb2.Tenant(
                    slug=SLUG, display_name=DISPLAY_NAME, plan=tenant_pb2.PLAN_ENTERPRISE
                ),
                owner_name=OWNER_NAME,
                request_id=REQUEST_ID,
            )
        )
        tenant_id, owner_id = created.tenant.tenant_id, created.owner.user_id
        if created.api_key:
            return FirstTenant(tenant_id, owner_id, created.api_key, is_new_key=True)
        if known_key and await _opens(directory, known_key, tenant_id):
            return FirstTenant(tenant_id, owner_id, known_key, is_new_key=False)
    with context.bind(_as_owner(created.owner, internal, tenant_id)):
        key = await directory.CreateApiKey(pb.CreateApiKeyRequest(label="made at a start"))
    return FirstTenant(tenant_id, owner_id, key.secret, is_new_key=True)


async def _opens(directory: DirectoryServiceAsyncStub, key: str, tenant_id: str) -> bool:
    try:
        found = await directory.AuthenticateApiKey(
            pb.AuthenticateApiKeyRequest(api_key_sha256=api_keys.digest(key))
        )
    except Unauthenticated:
        return False
    return found.principal.tenant_id == tenant_id


def _as_owner(owner: tenant_pb2.User, call: CallContext, tenant_id: str) -> CallContext:
    roles = tuple(owner.roles)
    principal = Principal(tenant_id, owner.user_id, "user", permissions_of(roles), roles)
    return CallContext(
        principal=principal,
        deadline=call.deadline,
        request_id=call.request_id,
        correlation_id=call.correlation_id,
        traceparent=call.traceparent,
        tracestate=call.tracestate,
    )
