"""Tenants, users and API keys."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from meshwright.session.v1 import directory_service_pb2, tenant_pb2
from meshwright.types.v1 import principal_pb2
from meshwright_common.context import Principal
from meshwright_common.errors import invalid
from meshwright_common.ids import parse_id
from meshwright_session.domain.directory import Authenticated
from meshwright_session.domain.directory_models import ApiKey, Plan, Tenant, TenantState, User
from meshwright_session.wire import values
from meshwright_session.wire.quotas import agreed_message

MAX_DISPLAY_NAME_CHARACTERS: Final = 200
MAX_USER_NAME_CHARACTERS: Final = 128
MAX_LABEL_CHARACTERS: Final = 100
MAX_PERMISSIONS: Final = 100
_SLUG: Final = re.compile(r"[a-z0-9-]{1,64}")
_EMAIL: Final = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]{1,189}")
_SHA256_BYTES: Final = 32

_PLANS: Final[dict[int, Plan]] = {
    tenant_pb2.PLAN_STARTER: "starter",
    tenant_pb2.PLAN_PROFESSIONAL: "professional",
    tenant_pb2.PLAN_ENTERPRISE: "enterprise",
}
_WIRE_PLANS: Final[dict[Plan, tenant_pb2.Plan.ValueType]] = {
    "starter": tenant_pb2.PLAN_STARTER,
    "professional": tenant_pb2.PLAN_PROFESSIONAL,
    "enterprise": tenant_pb2.PLAN_ENTERPRISE,
}


_STATES: Final[dict[TenantState, tenant_pb2.TenantState.ValueType]] = {
    "active": tenant_pb2.TENANT_STATE_ACTIVE,
    "suspended": tenant_pb2.TENANT_STATE_SUSPENDED,
    "deleting": tenant_pb2.TENANT_STATE_DELETING,
}


@dataclass(frozen=True, slots=True)
class TenantWanted:
    """What a CreateTenant asks for."""

    slug: str
    display_name: str
    plan: Plan
    owner_name: str


@dataclass(frozen=True, slots=True)
class UserWanted:
    """What a CreateUser asks for."""

    name: str
    email: str
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ApiKeyWanted:
    """What a CreateApiKey asks for. An empty user is the caller."""

    user_id: str
    label: str
    permissions: tuple[str, ...]
    expire_time: datetime | None


def digest(request: directory_service_pb2.AuthenticateApiKeyRequest) -> bytes:
    """Return the digest of the key. Raises: InvalidArgument."""
    if len(request.api_key_sha256) != _SHA256_BYTES:
        raise invalid("api_key_sha256", f"must have {_SHA256_BYTES} bytes")
    return request.api_key_sha256


def tenant_wanted(request: directory_service_pb2.CreateTenantRequest) -> TenantWanted:
    """Return the tenant to be made. Raises: InvalidArgument naming the field."""
    tenant = request.tenant
    _refuse_others(tenant, "tenant", ("slug", "display_name", "plan"))
    if not _SLUG.fullmatch(tenant.slug):
        raise invalid("tenant.slug", "must be 1 to 64 of a to z, digits and -")
    return TenantWanted(
        slug=tenant.slug,
        display_name=values.text(
            tenant.display_name, "tenant.display_name", most=MAX_DISPLAY_NAME_CHARACTERS
        ),
        # A tenant made without a plan starts with the smallest one.
        plan=plan_from(tenant.plan) or "starter",
        owner_name=values.name(request.owner_name, "owner_name", most=MAX_USER_NAME_CHARACTERS),
    )


def user_wanted(request: directory_service_pb2.CreateUserRequest) -> UserWanted:
    """Return the user to be made. Raises: InvalidArgument naming the field."""
    user = request.user
    _refuse_others(user, "user", ("name", "email", "roles"))
    email, roles = user_email(user.email), user_roles(user.roles)
    return UserWanted(name=user_name(user.name), email=email, roles=roles)


def plan_from(plan: int) -> Plan | None:
    """Return a plan; None when none is named. Raises: InvalidArgument."""
    if plan == tenant_pb2.PLAN_UNSPECIFIED:
        return None
    if plan not in _PLANS:
        raise invalid("tenant.plan", "is not a plan")
    return _PLANS[plan]


def user_name(name: str) -> str:
    """Return a user's name. Raises: InvalidArgument."""
    return values.name(name, "user.name", most=MAX_USER_NAME_CHARACTERS)


def user_email(email: str) -> str:
    """Return an address, or none. Raises: InvalidArgument."""
    if email and not _EMAIL.fullmatch(email):
        raise invalid("user.email", "is no e-mail address")
    return email


def user_roles(roles: Iterable[str]) -> tuple[str, ...]:
    """Return names of roles, each once. Raises: InvalidArgument when there are none."""
    named = tuple(dict.fromkeys(roles))
    if not named:
        raise invalid("user.roles", "must name at least one role")
    return named


def api_key_wanted(request: directory_service_pb2.CreateApiKeyRequest) -> ApiKeyWanted:
    """Return the key to be made. Raises: InvalidArgument naming the field."""
    if len(request.permissions) > MAX_PERMISSIONS:
        raise invalid("permissions", f"must be at most {MAX_PERMISSIONS}")
    return ApiKeyWanted(
        user_id=parse_id(request.user_id, "user_id") if request.user_id else "",
        label=values.text(request.label, "label", most=MAX_LABEL_CHARACTERS),
        permissions=tuple(dict.fromkeys(request.permissions)),
        expire_time=values.moment(request, "expire_time"),
    )


def authenticated_message(
    found: Authenticated,
) -> directory_service_pb2.AuthenticateApiKeyResponse:
    """Return whom a key stands for as the wire shows it."""
    return directory_service_pb2.AuthenticateApiKeyResponse(
        principal=principal_message(found.principal),
        api_key_id=found.api_key_id,
        expire_time=values.timestamp(found.expire_time),
    )


def principal_message(caller: Principal) -> principal_pb2.Principal:
    """Return a user as a caller, as the wire shows it."""
    return principal_pb2.Principal(
        tenant_id=caller.tenant_id,
        subject=caller.subject,
        kind=principal_pb2.PRINCIPAL_KIND_USER,
        permissions=sorted(caller.permissions),
        roles=caller.roles,
    )


def tenant_message(tenant: Tenant) -> tenant_pb2.Tenant:
    """Return a tenant as the wire shows it."""
    return tenant_pb2.Tenant(
        tenant_id=tenant.tenant_id,
        slug=tenant.slug,
        display_name=tenant.display_name,
        plan=_WIRE_PLANS[tenant.plan],
        suspended=tenant.state != "active",
        create_time=values.timestamp(tenant.create_time),
        state=_STATES[tenant.state],
        agreed_quota=agreed_message(tenant.agreed),
    )


def user_message(user: User) -> tenant_pb2.User:
    """Return a user as the wire shows it."""
    return tenant_pb2.User(
        user_id=user.user_id,
        name=user.name,
        email=user.email,
        roles=user.roles,
        disabled=user.disabled,
        create_time=values.timestamp(user.create_time),
    )


def api_key_message(key: ApiKey) -> tenant_pb2.ApiKey:
    """Return an API key as the wire shows it."""
    return tenant_pb2.ApiKey(
        api_key_id=key.api_key_id,
        user_id=key.user_id,
        label=key.label,
        prefix=key.prefix,
        permissions=key.permissions,
        create_time=values.timestamp(key.create_time),
        expire_time=values.timestamp(key.expire_time),
        revoked=key.revoked,
    )


def _refuse_others(
    message: tenant_pb2.Tenant | tenant_pb2.User, field: str, taken: tuple[str, ...]
) -> None:
    for descriptor, _ in message.ListFields():
        if descriptor.name not in taken:
            raise invalid(f"{field}.{descriptor.name}", "is set by the service: leave it out")
