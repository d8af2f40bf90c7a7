"""Changes of tenants and users, lists of tenants, quotas."""

from collections.abc import Iterable
from typing import Final

from meshwright.session.v1 import directory_service_pb2 as pb
from meshwright_common.errors import invalid
from meshwright_common.ids import parse_id
from meshwright_session.domain.directory_models import Tenant, TenantChange, UserChange
from meshwright_session.domain.tenant_models import Quota
from meshwright_session.wire import directory, quotas, values

AGREED: Final = "agreed_quota"
_TENANT_FIELDS: Final = ("plan", "suspended", "display_name", AGREED)
_TENANT_DEFAULT: Final = ("plan", "suspended")
_USER_FIELDS: Final = ("name", "email", "roles", "disabled")
MAX_NAME_CHARACTERS: Final = 64
"""Of a slug or an id."""


def tenant_change(request: pb.UpdateTenantRequest) -> tuple[str, TenantChange]:
    """Return whom to change and how. Raises: InvalidArgument naming the field."""
    tenant = request.tenant
    paths = set(request.update_mask.paths) or set(_TENANT_DEFAULT)
    agreed_fields = _agreed_fields(paths)
    _refuse_unknown((path for path in paths if not path.startswith(f"{AGREED}.")), _TENANT_FIELDS)
    display_name = None
    if "display_name" in paths:
        display_name = values.text(
            tenant.display_name,
            "tenant.display_name",
            most=directory.MAX_DISPLAY_NAME_CHARACTERS,
        )
    return parse_id(tenant.tenant_id, "tenant.tenant_id"), TenantChange(
        plan=directory.plan_from(tenant.plan) if "plan" in paths else None,
        suspended=tenant.suspended if "suspended" in paths else None,
        display_name=display_name,
        agreed=quotas.agreed_from(tenant.agreed_quota, f"tenant.{AGREED}"),
        agreed_fields=agreed_fields,
    )


def user_change(request: pb.UpdateUserRequest) -> tuple[str, UserChange]:
    """Return whom to change and how. Raises: InvalidArgument naming the field."""
    user, paths = request.user, set(request.update_mask.paths)
    _refuse_unknown(paths, _USER_FIELDS)
    if not paths:
        raise invalid("update_mask", f"must name some of {', '.join(_USER_FIELDS)}")
    return parse_id(user.user_id, "user.user_id"), UserChange(
        name=directory.user_name(user.name) if "name" in paths else None,
        email=directory.user_email(user.email) if "email" in paths else None,
        roles=directory.user_roles(user.roles) if "roles" in paths else None,
        disabled=user.disabled if "disabled" in paths else None,
    )


def tenant_name(request: pb.ListTenantsRequest) -> str:
    """Return the slug or id that is looked for. Raises: InvalidArgument."""
    return values.text(request.name, "name", most=MAX_NAME_CHARACTERS)


def tenant_list(tenants: Iterable[Tenant], next_token: str) -> pb.ListTenantsResponse:
    """Return a page of tenants as the wire shows it."""
    return pb.ListTenantsResponse(
        tenants=[directory.tenant_message(tenant) for tenant in tenants],
        page=values.page_info(next_token),
    )


def quota_message(quota: Quota) -> pb.GetQuotaResponse:
    """Return a quota as the wire shows it."""
    tenant = directory.tenant_message(quota.tenant)
    return pb.GetQuotaResponse(
        quota=quotas.limits_message(quota.limits),
        used=quotas.used_message(quota.used),
        plan=tenant.plan,
        state=tenant.state,
        alert_percents=quota.alert_percents,
        unknown=quotas.unknown(quota.used),
    )


def _agreed_fields(paths: set[str]) -> frozenset[str]:
    if AGREED in paths:
        return frozenset(quotas.FIELDS.values())
    named = {path.partition(".")[2] for path in paths if path.startswith(f"{AGREED}.")}
    _refuse_unknown(named, tuple(quotas.FIELDS), below=f"{AGREED}.")
    return frozenset(quotas.FIELDS[name] for name in named)


def _refuse_unknown(paths: Iterable[str], known: tuple[str, ...], *, below: str = "") -> None:
    if others := sorted(set(paths).difference(known)):
        named = ", ".join(f"{below}{one}" for one in others)
        raise invalid("update_mask", f"cannot change {named}; it can: {', '.join(known)}")
